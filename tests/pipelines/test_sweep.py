"""`headwise sweep`: trials on validation, children of one run, continued after `kill -9` as if nothing had been."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import headwise_pipelines.sweep
from headwise_recsys.task import RecommenderTask

optuna = pytest.importorskip("optuna", reason="needs the extra `tune`")

SEARCH = (
    "--search",
    "optimizer.rate=1e-4..1e-1:log",
    "--search",
    "model.width=14,29",
    "--search",
    "model.heads=1,2",
)
SMALL = (
    "--model.window=17",
    "--model.blocks=1",
    "--tokens=307",
    "--optimizer.warmup=5",
    "--fit.epochs=2",
    "--fit.threads=1",
)
TRIALS = 7


def command(shop: Path, trials: int, *more: str) -> tuple[object, ...]:
    return ("sweep", "recsys", "shopping", "--data", shop, "--trials", trials, *SEARCH, *SMALL, *more, "--json")


@pytest.fixture(scope="module")
def swept(new_place: Any, shop: Path) -> Any:
    place = new_place()
    said = place.run(*command(shop, TRIALS))
    assert said.code == 0, said.err
    return place, said


def told(place: Any, answer: Any) -> list[tuple[Any, ...]]:
    """Values, state and scores of every trial that ended by itself, in order."""
    with sqlite3.connect(place.folder / answer["folder"] / "study.db") as database:
        rows = database.execute("select trial_id, state from trials order by number").fetchall()
        return [
            (
                state,
                database.execute(
                    "select param_name, param_value from trial_params where trial_id = ? order by 1", [row]
                ).fetchall(),
                database.execute("select value from trial_values where trial_id = ?", [row]).fetchall(),
                database.execute(
                    "select step, intermediate_value from trial_intermediate_values where trial_id = ? order by 1",
                    [row],
                ).fetchall(),
            )
            for row, state in rows
            if state != "FAIL"
            or database.execute(
                "select 1 from trial_user_attributes where trial_id = ? and key = 'refused'", [row]
            ).fetchall()
        ]


def test_best_is_the_best_by_validation_and_its_flags_are_those_of_training(swept, new_place, shop) -> None:
    place, said = swept
    answer = said.json
    assert sum(answer["trials"].values()) == TRIALS
    assert answer["metric"] == "valid/ndcg_10"
    whole = [values[0][0] for state, _, values, _ in told(place, answer) if state == "COMPLETE"]
    assert answer["best"]["score"] == max(whole)
    printed = place.run("train", "recsys", "shopping", *SMALL, *answer["best"]["flags"], "--print_config")
    kept = place.run("train", "recsys", "shopping", "--config", answer["config"], "--print_config")
    assert printed.out == kept.out
    elsewhere = new_place()
    config = place.folder / answer["config"]
    trained = elsewhere.run("train", "recsys", "shopping", "--data", shop, "--config", config, "--json")
    assert trained.code == 0, trained.err
    with elsewhere.entered() as client:
        history = client.get_metric_history(trained.json["run"], "valid/ndcg_10")
    assert max(point.value for point in history) == pytest.approx(answer["best"]["score"], abs=1e-9)


def test_values_that_do_not_go_together_are_a_failed_trial_and_no_more(swept) -> None:
    _, said = swept
    refused = [line for line in said.err.splitlines() if "refused" in line]
    assert len(refused) == said.json["trials"]["failed"] > 0
    assert all("model.width (29) must be divisible by model.heads (2)" in line for line in refused)


def test_every_trial_is_a_child_in_mlflow_and_reads_no_test_data(swept) -> None:
    place, said = swept
    parent = said.json["run"].rsplit("/", 1)[-1]
    with place.entered() as client:
        run = client.get_run(parent)
        assert client.search_registered_models() == []
        children = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{parent}'")
        files = {file.path for file in client.list_artifacts(parent)} | {
            file.path for file in client.list_artifacts(parent, "figures")
        }
    assert (run.info.run_name, run.info.status) == ("sweep shopping", "FINISHED")
    assert run.data.metrics["best/valid/ndcg_10"] == said.json["best"]["score"]
    assert run.data.tags["best trial"] == str(said.json["best"]["trial"])
    assert files >= {"best.yaml", "config.json", "figures/trials.png"}
    assert len(children) == TRIALS - said.json["trials"]["failed"]
    for child in children:
        assert child.info.status == "FINISHED"
        assert child.info.run_name == f"trial {child.data.tags['trial']}"
        assert "valid/ndcg_10" in child.data.metrics
        assert [name for name in child.data.metrics if name.startswith(("test/", "baseline/"))] == []


def test_no_checkpoint_of_a_trial_is_left(swept) -> None:
    place, said = swept
    assert list((place.folder / said.json["folder"]).rglob("*.ckpt")) == []


def test_given_again_it_only_tells_and_more_trials_go_on(swept, shop) -> None:
    place, said = swept
    before = told(place, said.json)
    again = place.run(*command(shop, TRIALS))
    assert again.json["best"] == said.json["best"]
    assert "trial" not in again.err.replace("trials", "")
    more = place.run(*command(shop, TRIALS + 1))
    assert more.json["folder"] == said.json["folder"]
    assert told(place, more.json)[:TRIALS] == before
    assert len(told(place, more.json)) == TRIALS + 1


KILLING = """
import os, signal, sys
import headwise_pipelines.recsys.train
from headwise.tracking.connection import connect
from headwise_pipelines.command import main
from headwise_recsys.task import RecommenderTask

count, step = 0, RecommenderTask.training_step

def deadly(task, batch, number):
    global count
    if (task.current_epoch, number) == (1, 3):
        count += 1
        if count == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return step(task, batch, number)

RecommenderTask.training_step = deadly
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_loses_one_trial_and_ends_the_same(swept, place, shop) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    killed = subprocess.run(
        [sys.executable, "-c", KILLING, *map(str, command(shop, TRIALS))],
        cwd=place.folder, env=environment | place.environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    said = place.run(*command(shop, TRIALS))
    assert said.code == 0, said.err
    assert "was not trained to its end: marked as failed" in said.err
    assert told(place, said.json) == told(swept[0], swept[1].json)[:TRIALS]
    assert said.json["trials"]["failed"] == swept[1].json["trials"]["failed"] + 1
    assert said.json["best"]["flags"] == swept[1].json["best"]["flags"]
    parent = said.json["run"].rsplit("/", 1)[-1]
    with place.entered() as client:
        runs = client.search_runs([client.get_run(parent).info.experiment_id])
    states = sorted(run.info.status for run in runs)
    assert states.count("FAILED") == 1
    assert "RUNNING" not in states
    assert sum("mlflow.parentRunId" not in run.data.tags for run in runs) == 1
    assert list((place.folder / said.json["folder"]).rglob("*.ckpt")) == []


def test_stopped_by_the_user_its_trial_has_failed_and_it_goes_on(swept, place, shop, monkeypatch) -> None:
    step = RecommenderTask.training_step

    def interrupted(task: RecommenderTask, batch: Any, number: int) -> Any:
        if (task.current_epoch, number) == (1, 3):
            signal.raise_signal(signal.SIGINT)
        return step(task, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(RecommenderTask, "training_step", interrupted)
        stopped = place.run(*command(shop, TRIALS))
    assert stopped.code == 130
    assert "the same command continues" in stopped.err.splitlines()[-1]
    said = place.run(*command(shop, TRIALS))
    assert told(place, said.json) == told(swept[0], swept[1].json)[:TRIALS]


@pytest.mark.slow
def test_a_trial_behind_the_median_is_ended_early(place, shop) -> None:
    rates = "optimizer.rate=1e-2,1e-7"
    said = place.run(
        *("sweep", "recsys", "shopping", "--data", shop, "--trials", 12, "--search", rates, *SMALL, "--fit.epochs=3")
    )
    assert said.code == 0, said.err
    early = [line for line in said.err.splitlines() if "is behind the median" in line]
    assert early
    assert all("ended after epoch 1" in line or "ended after epoch 2" in line for line in early)
    assert f"{len(early)} ended early" in said.out
    assert "best     trial" in said.out
    assert "--optimizer.rate=1e-2" in said.out
    assert f"train    headwise train recsys shopping --data {shop} --config .headwise/sweeps/" in said.out


def test_where_nothing_could_be_trained_it_says_why(place, shop) -> None:
    said = place.run(
        *("sweep", "recsys", "shopping", "--data", shop, "--trials", 2, "--search", "model.width=3,5", *SMALL)
    )
    assert said.code == 2
    assert re.fullmatch(
        r"headwise: no trial was trained to its end; the first was refused: model.width \([35]\) must be divisible by "
        r"model.heads \(2\)",
        said.err.splitlines()[-1],
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recsys", "nosuch"], "there is no preset 'nosuch' for recsys; there are: "),
        (["recsys", "shopping"], "nothing to search"),
        (["recsys", "shopping", "--search", "model.widht=3"], "there is no value 'model.widht'"),
        (["recsys", "shopping", "--search", "min_count=1,5"], "--search min_count: it decides what validation asks"),
        (["recsys", "shopping", "--search", "tokens=1,5", "--fit.devices", "2"], "a sweep trains in one process"),
        (
            ["recsys", "shopping", "--search", "tokens=1,5", "--model.widht", "2"],
            "headwise sweep recsys shopping --help",
        ),
        (["recsys", "shopping", "--search", "tokens=1,5"], "--data is missing"),
        (["recsys", "shopping", "--space", "nowhere"], "--space nowhere: no such file"),
        (["speech", "an4", "--search", "model.width=3"], "--data is missing"),
    ],
)
def test_what_cannot_be_swept_is_said_in_one_line_and_nothing_is_left(arguments, message, place) -> None:
    before = place.files()
    said = place.run("sweep", *arguments)
    assert said.code == 2
    assert message in said.refusal
    assert place.files() == before


def test_without_optuna_it_says_what_to_install(place, monkeypatch) -> None:
    monkeypatch.setattr(headwise_pipelines.sweep, "find_spec", lambda name: None)
    said = place.run("sweep", "recsys", "shopping", "--search", "tokens=1,5")
    assert said.refusal == "optuna is not installed; install headwise with its sweeps: pip install 'headwise[tune]'"
