"""A run that starts from another run's weights, by whatever names that run, frozen or not, stopped or not."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import headwise_pipelines.launch as launch
import headwise_pipelines.start as start
from headwise.errors import HeadwiseError
from headwise.model_folder import read_card
from headwise.tracking.earlier import weights_of
from headwise.training.checkpoints import load
from headwise_recsys import shopping
from headwise_recsys.prepare import prepare
from headwise_recsys.task import RecommenderTask

STAGES = Path(__file__).with_name("stages.py")
ROOT = Path(__file__).parents[2]
SIZES = {"users": 89, "items": 151, "events": 19}
FIXED = "encoder.blocks."


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another shop: fewer visitors, more items, two thirds of which bear a title that the first shop knows, under another id."""
    folder = tmp_path_factory.mktemp("data") / "market"
    shopping.write(folder, **SIZES)
    for name in ("events.csv", "items.csv"):
        path = folder / name
        path.write_text(path.read_text(encoding="utf-8").replace("sku-", "ean-"), encoding="utf-8")
    return folder


def command(trained: Any, market: Path, *more: object) -> list[str]:
    """The earlier run's own command line, on the other shop."""
    line = [str(market) if word == str(trained.data) else word for word in trained.arguments]
    return [*line, *map(str, more)]


def kept(folder: Path, name: str = "best.ckpt") -> Mapping[str, Tensor]:
    state = load(folder / "checkpoints" / name)["state_dict"]
    return {key.removeprefix("model."): tensor for key, tensor in state.items()}


def moved(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> set[str]:
    return {name for name in one if one[name].shape != other[name].shape or not torch.equal(one[name], other[name])}


def stop(*_: Any, **__: Any) -> None:
    raise HeadwiseError("stopped here")


def run_folder(place: Any, said: Any) -> Path:
    return place.folder / Path(said.json["folder"]).parent


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, migrated, trained, market) -> Any:
    """A frozen run in another directory with another store, started by the earlier run's folder."""
    folder = tmp_path_factory.mktemp("tuned")
    shutil.copyfile(migrated, folder / "mlflow.db")
    place = type(trained.place)(folder)
    line = command(trained, market, "--init-from", trained.model.parent, "--freeze")
    said = place.run(*line)
    assert said.code == 0, said.err
    return place, line, said


def test_it_says_what_it_took(tuned, trained, market, tmp_path) -> None:
    _, _, said = tuned
    known = set(json.loads((trained.model / "titles.json").read_text(encoding="utf-8")))
    titles = prepare(market, tmp_path, min_count=1).titles
    matched, items = sum(title in known for title in titles), len(titles)
    assert 0.5 < matched / items < 0.8, "some are known and some are not"
    lines = said.err.splitlines()
    first = lines.index(f"starts from shopping on shop, run {trained.outcome['run']}")
    assert lines[first + 1 : first + 3] == [
        "taken    17 tensors: positions 1, encoder 16",
        f"resized  embedding.weight: {matched + 1} of {items + 1} rows, by title",
    ]
    assert ", 2,534 frozen" in said.err


def test_the_tracker_and_the_card_know_the_start(tuned, trained, tmp_path) -> None:
    place, _, said = tuned
    earlier = trained.outcome["run"]
    with place.entered() as client:
        run = client.get_run(said.json["run"])
        path = client.download_artifacts(run.info.run_id, "initialised.json", str(tmp_path))
        text = client.download_artifacts(run.info.run_id, "initialised.txt", str(tmp_path))
        card = client.download_artifacts(run.info.run_id, "model_card.md", str(tmp_path))
    assert run.data.tags.items() >= {"init from": earlier, "freeze": "true"}.items()
    assert run.data.params.items() >= {"init_from": earlier, "freeze": "true"}.items()
    report = json.loads(Path(path).read_text(encoding="utf-8"))
    assert (report["init_from"], report["name"], report["freeze"]) == (earlier, "shopping on shop", True)
    assert {tensor["state"] for tensor in report["tensors"]} == {"taken", "resized"}
    assert "taken    17 tensors" in Path(text).read_text(encoding="utf-8")
    assert f"weights of run `{earlier}`, shopping on shop, whose blocks" in Path(card).read_text(encoding="utf-8")
    provenance = read_card(place.folder / said.json["folder"]).provenance
    assert provenance["start"] == {"run": earlier, "name": "shopping on shop", "frozen": True}


def test_frozen_blocks_keep_the_earlier_bits_and_all_else_moves(tuned, trained) -> None:
    place, _, said = tuned
    before, after = kept(trained.model.parent), kept(run_folder(place, said))
    assert moved(after, before) == {name for name in after if not name.startswith(FIXED)}


@pytest.mark.slow
def test_a_frozen_run_killed_at_any_point_is_one_run_and_ends_with_the_same_bits(tuned, place) -> None:
    _, line, whole = tuned
    sources = [str(ROOT / source) for source in ("platform", "recsys", "speech", "pipelines")]
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sources)}
    killed = subprocess.run(
        [sys.executable, STAGES, "checkpoint,training", *line],
        cwd=place.folder, env=environment | place.environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert killed.returncode == 0, killed.stderr
    said = place.run(*line)
    assert said.code == 0, said.err
    assert "; trained since" in said.err
    assert ", 2,534 frozen, continued from" in said.err
    assert {json.loads(death)["run"] for death in killed.stdout.splitlines()} == {said.json["run"]}
    for name in ("best.ckpt", "last.ckpt"):
        assert moved(kept(run_folder(place, said), name), kept(run_folder(tuned[0], whole), name)) == set()


@pytest.mark.slow
def test_without_freeze_everything_moves_and_a_stopped_run_is_not_begun_again(
    trained, market, place, monkeypatch
) -> None:
    step = RecommenderTask.training_step

    def interrupted(task: RecommenderTask, batch: Any, number: int) -> Any:
        if (task.current_epoch, number) == (1, 1):
            signal.raise_signal(signal.SIGINT)
        return step(task, batch, number)

    line = command(trained, market, "--init-from", trained.model.parent)
    with monkeypatch.context() as patch:
        patch.setattr(RecommenderTask, "training_step", interrupted)
        assert place.run(*line).code == 130
    with monkeypatch.context() as patch:
        patch.setattr(start, "initialise", None)  # it has trained: its weights are its own
        said = place.run(*line)
    assert said.code == 0, said.err
    before, after = kept(trained.model.parent), kept(run_folder(place, said))
    assert moved(after, before) == set(after)


def test_another_start_is_another_run(trained, market, place, monkeypatch) -> None:
    """An unfinished run is continued by its own command alone."""
    monkeypatch.setattr(launch, "open_run", stop)
    starts = ([], ["--init-from", trained.model.parent], ["--init-from", trained.model.parent, "--freeze"])
    for more in (*starts, *starts):
        assert place.run(*command(trained, market, *more)).code == 1
    assert len(list((place.folder / ".headwise/runs").iterdir())) == len(starts)


@pytest.mark.parametrize("named", ["{run}", "runs:/{run}", "models:/recommender@champion", "models:/recommender/1"])
def test_the_tracker_alone_is_enough(named, trained, tmp_path) -> None:
    """Another directory, the same store: no run folder is near."""
    shutil.copyfile(trained.place.folder / "mlflow.db", tmp_path / "mlflow.db")
    with type(trained.place)(tmp_path).entered():
        found = start.start_from(
            named.format(run=trained.outcome["run"]), "recsys", freeze=False, work=Path(".headwise")
        )
        tables = (found.tables / "items.json").read_bytes()
    assert found.run == trained.outcome["run"]
    assert found.name == "shopping on shop"
    assert moved(found.weights, kept(trained.model.parent)) == set()
    assert tables == (trained.model / "items.json").read_bytes()


@pytest.mark.parametrize("named", ["{folder}", "{model}", "{name}", "{run}"])
def test_a_folder_needs_no_tracker(named, trained, monkeypatch) -> None:
    folder = trained.model.parent
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.chdir(trained.place.folder)
    words = {"folder": folder, "model": trained.model, "name": folder.name, "run": trained.outcome["run"]}
    found = start.start_from(named.format(**words), "recsys", freeze=True, work=Path(".headwise"))
    assert found.plain == {"init_from": trained.outcome["run"], "freeze": True}
    assert moved(found.weights, kept(folder)) == set()


def test_weights_in_the_tracker_are_those_of_the_kept_checkpoint_alone(trained, tmp_path) -> None:
    with trained.place.entered():
        path = weights_of(trained.outcome["run"], tmp_path)
    assert set(load(path)) == {"state_dict"}
    assert path.stat().st_size < (trained.model.parent / "checkpoints/best.ckpt").stat().st_size / 2


@pytest.mark.slow
def test_a_fine_tuned_run_is_repeated_with_its_start(tuned, trained, market) -> None:
    place, line, said = tuned
    cut = line.index("--init-from")
    again = place.run(*line[:cut], "--from-run", said.json["run"], "--init-from", trained.model.parent, "--freeze")
    assert again.code == 0, again.err
    assert again.json["metrics"] == said.json["metrics"]
    wrong = place.run(*line[:cut], "--from-run", said.json["run"])
    assert (wrong.code, trained.outcome["run"] in wrong.err) == (2, True), "its start is looked for, and is not here"


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["--freeze"], "--freeze needs --init-from RUN"),
        (["--init-from", "nosuch"], "tracking at sqlite:"),
        (["--init-from", "models:/nosuch@champion"], "no model is registered as nosuch"),
        (["--init-from", "models:nosuch"], "models:nosuch: a run is named by its id"),
        (["--init-from", "x:/nosuch"], "x:/nosuch: a run is named by its id, its folder, runs:/id"),
        (["--init-from", "."], "--init-from .: neither a run's folder, with run.json, nor a model's, with model.json"),
        (["--init-from", "RUN", "--model.width=22"], "model.width is 22, that of the earlier run 14"),
    ],
)
def test_what_cannot_be_started_from_is_refused_in_one_message(words, refusal, trained, market, place) -> None:
    named = [str(trained.model.parent) if word == "RUN" else word for word in words]
    said = place.run(*command(trained, market, *named))
    assert (said.code, said.out) == (2, "")
    assert refusal in said.err.splitlines()[-1]
    assert "Traceback" not in said.err


def test_a_run_of_the_other_product_or_without_a_model_is_refused(trained, market, place) -> None:
    line = ["train", "speech", "spelled", "--data", market, "--init-from", trained.model.parent]
    said = place.run(*line)
    assert (said.code, said.refusal.endswith("this run is of recsys, not of speech")) == (2, True)
    bare = place.folder / "bare"
    shutil.copytree(trained.model.parent, bare, ignore=shutil.ignore_patterns("model"))
    said = place.run(*command(trained, market, "--init-from", bare))
    assert (said.code, "this run has made no model yet" in said.refusal) == (2, True)


@pytest.mark.slow
def test_heads_that_shapes_do_not_tell_of_are_told(trained, market, place) -> None:
    said = place.run(
        *command(trained, market, "--init-from", trained.model.parent, "--model.heads=7", "--fit.epochs=1")
    )
    assert said.code == 0, said.err
    assert "differs  model.heads is 7, in the earlier run 2" in said.err
