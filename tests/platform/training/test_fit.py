import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from headwise.errors import HeadwiseError, InputError
from headwise.training.checkpoints import load, restore
from headwise.training.fit import Fitted, Interrupted, fit
from headwise.training.settings import FitSettings

SETTINGS = FitSettings(epochs=4, average=0.9, threads=1, accelerator="cpu")
STEPS = 6  # an epoch


@pytest.fixture
def train(toy, tmp_path):
    def run(folder: str = "run", settings: FitSettings = SETTINGS, tracker=None, task=None, **chances) -> Fitted:
        pl.seed_everything(3, verbose=False)
        task = task or toy.Regression(**chances)
        where = tmp_path / folder
        return fit(task, toy.Rows(), settings=settings, folder=where, monitor="valid/loss", mode="min", tracker=tracker)

    return run


def without_time(fitted: Fitted) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in fitted.history]


class Recorder:
    id = "r1"

    def __init__(self):
        self.seen = []

    def metrics(self, values, step):
        self.seen.append((step, dict(values)))

    def figure(self, name, figure): ...

    def flush(self): ...


def test_a_process_killed_in_the_middle_of_an_epoch_continues_to_the_same_bits(train, toy, tmp_path):
    whole = train("whole")
    program = [
        sys.executable,
        Path(toy.__file__),
        tmp_path / "killed",
        "--average",
        "0.9",
        "--die-at",
        str(2 * STEPS + 3),
    ]
    paths = os.pathsep.join(path for path in sys.path if path)
    killed = subprocess.run(program, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert load(tmp_path / "killed/checkpoints/last.ckpt")["epoch"] == 1  # two epochs are done, counted from 0

    resumed = train("killed")

    assert without_time(resumed) == without_time(whole)
    assert (resumed.score, resumed.epoch, resumed.epochs_run) == (whole.score, whole.epoch, 4)
    for name in ("best.ckpt", "last.ckpt"):
        ours, theirs = load(resumed.best.with_name(name)), load(whole.best.with_name(name))
        for part in ("state_dict", "current_model_state"):
            assert all(torch.equal(ours[part][key], theirs[part][key]) for key in theirs[part]), (name, part)


@pytest.mark.parametrize(("kill", "word"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_signal_ends_training_cleanly_and_the_same_command_continues(train, kill, word):
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(
        Interrupted, match=f"stopped by {word}: 1 whole epoch is kept in .*; the same command continues"
    ):
        train("stopped", die_at=STEPS + 2, kill=kill)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert without_time(train("stopped")) == without_time(train("whole"))


def test_what_is_validated_is_what_is_kept_and_is_averaged(train, toy):
    task = toy.Regression()
    fitted = train(task=task)
    best = load(fitted.best)
    assert torch.equal(task.validated[fitted.epoch - 1], best["state_dict"]["net.0.weight"])
    assert not torch.equal(best["current_model_state"]["net.0.weight"], best["state_dict"]["net.0.weight"])
    assert best["state_dict"]["seen"] == fitted.epoch * toy.EXAMPLES  # a counter is carried along, not averaged
    other = toy.Regression()
    restore(other, fitted.best)
    assert torch.equal(other.net[0].weight, task.validated[fitted.epoch - 1])


def test_the_average_is_the_formula(train, toy):
    """After each step a <- d a + (1 - d) w; the first step sets a to w."""
    weights = []

    class Watch(toy.Regression):
        def on_train_batch_end(self, *_):
            weights.append(self.net[0].weight.detach().clone())

    fitted = train(settings=replace(SETTINGS, epochs=1), task=Watch())
    average = weights[0]
    for weight in weights[1:]:
        average = 0.9 * average + 0.1 * weight
    torch.testing.assert_close(load(fitted.best)["state_dict"]["net.0.weight"], average)


def test_a_finished_run_is_not_trained_again(train):
    first = train()
    written = first.best.with_name("last.ckpt").stat().st_mtime_ns
    again = train()
    assert (again.score, again.epoch, again.epochs_run) == (first.score, first.epoch, 4)
    assert first.best.with_name("last.ckpt").stat().st_mtime_ns == written


def test_a_run_that_stopped_early_stays_stopped_and_remembers_its_best(train, toy):
    class Worse(toy.Regression):
        def validation_step(self, batch):
            self.log("valid/loss", torch.tensor(1.0 + self.current_epoch))

    settings = replace(SETTINGS, epochs=31, patience=2)
    first = train(settings=settings, task=Worse())
    again = train(settings=settings, task=Worse())
    assert (first.epoch, first.score, first.epochs_run) == (1, 1.0, 3)
    assert again == first


def test_an_epoch_without_validation_neither_counts_nor_repeats_its_metrics(train):
    fitted = train(settings=replace(SETTINGS, epochs=5, validate_every=2, patience=1))
    assert ["valid/loss" in row for row in fitted.history] == [False, True, False, True, False]
    assert all("train/loss" in row and "train/loss_epoch" not in row for row in fitted.history)


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_step(train):
    with pytest.raises(HeadwiseError, match=r"the training loss is nan at step 9, epoch 2 \(learning rate .*Lower"):
        train(poison=9)


def test_a_metric_to_choose_by_that_is_no_number_ends_the_run(train, toy):
    class Blind(toy.Regression):
        def validation_step(self, batch):
            self.log("valid/loss", torch.tensor(float("nan")))

    with pytest.raises(HeadwiseError, match="valid/loss is nan after epoch 1"):
        train(task=Blind())


def test_a_task_that_does_not_log_the_monitored_metric_is_told_what_it_logs(train, toy, tmp_path):
    with pytest.raises(HeadwiseError, match=r"logs no 'valid/ndcg' in validation; it logs: .*valid/loss"):
        fit(toy.Regression(), toy.Rows(), settings=SETTINGS, folder=tmp_path, monitor="valid/ndcg", mode="max")


def test_a_full_disk_leaves_the_previous_checkpoint_and_one_message(train, tmp_path):
    train(settings=replace(SETTINGS, epochs=1))
    checkpoints = tmp_path / "run/checkpoints"
    before = {path.name: path.read_bytes() for path in checkpoints.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(HeadwiseError, match=r"best.ckpt: the checkpoint could not be written \(File too large\)"):
            train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in checkpoints.iterdir()} == before


def test_a_draft_of_a_killed_process_is_swept_away(train, tmp_path):
    draft = tmp_path / "run/checkpoints/.last.ckpt.123-abcdef01"
    draft.parent.mkdir(parents=True)
    draft.write_bytes(b"half")
    train(settings=replace(SETTINGS, epochs=1))
    assert sorted(path.name for path in draft.parent.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_torn_checkpoint_is_reported(train, tmp_path):
    last = tmp_path / "run/checkpoints/last.ckpt"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"last.ckpt: cannot be read as a checkpoint \(.*remove it to train again"):
        train()


def test_the_tracker_hears_every_metric_with_its_step(train):
    tracker = Recorder()
    fitted = train(tracker=tracker)
    validated = {step: values["valid/loss"] for step, values in tracker.seen if "valid/loss" in values}
    assert list(validated.values()) == [row["valid/loss"] for row in fitted.history]
    assert list(validated) == [STEPS * epoch - 1 for epoch in range(1, 5)]
    assert [values["epoch"] for _, values in tracker.seen if "epoch" in values] == [0.0, 1.0, 2.0, 3.0]


def test_what_an_epoch_measured_is_sent_before_its_checkpoint_is_written(train, tmp_path):
    last = tmp_path / "run/checkpoints/last.ckpt"

    class Sent(Recorder):
        def flush(self):
            validated = sum("valid/loss" in values for _, values in self.seen)
            flushed.append((validated, load(last)["epoch"] + 1 if last.exists() else 0))

    flushed = []
    train(tracker=Sent())
    assert [pair for pair in zip(range(1, 5), range(4), strict=True) if pair in flushed] == [
        (1, 0),
        (2, 1),
        (3, 2),
        (4, 3),
    ]


def test_a_log_gets_one_line_an_epoch_and_nothing_else(train, capfd):
    train()
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0] == "100 parameters to train"
    assert len(lines) == 5
    assert lines[2].startswith("epoch 2/4  train/loss ")
    assert lines[2].endswith(" left")


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(InputError, match=r"fit.average \(1.0\) is a decay"):
        FitSettings(average=1.0)
    with pytest.raises(InputError, match=r"fit.validate_every \(7\) is beyond fit.epochs \(5\)"):
        FitSettings(epochs=5, validate_every=7)
    assert json.dumps(FitSettings().__dict__)
