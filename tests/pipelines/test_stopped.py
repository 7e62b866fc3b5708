"""A run that is stopped, whenever and however, is continued by the same command and ends as if nothing had been."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headwise.model_folder import read_card
from headwise.tracking.registry import fetch
from headwise_recsys.task import RecommenderTask

STAGES = Path(__file__).with_name("stages.py")
ROOT = Path(__file__).parents[2]
POINTS = ("training", "checkpoint", "writing", "register", "promote", "finish")
MEASURED = ("train/loss", "valid/ndcg_10", "valid/hr_10", "test/ndcg_10", "baseline/EASE/hr_5")


def measured(place: Any, run: str) -> dict[str, list[tuple[int, float]]]:
    """Each metric at each step; a step done twice gives the same twice, which is told once."""
    with place.entered() as client:
        history = {name: client.get_metric_history(run, name) for name in MEASURED}
    return {name: sorted({(point.step, point.value) for point in points}) for name, points in history.items()}


def assert_whole(place: Any, trained: Any, outcome: dict[str, Any]) -> None:
    """As the run that was never stopped, bit for bit."""
    with place.entered() as client:
        experiment = client.get_experiment_by_name("recsys")
        [run] = client.search_runs([experiment.experiment_id])
        [version] = client.search_model_versions("name = 'recommender'")
        registered = fetch("models:/recommender@champion", place.folder / "fetched")
        assert run.data.params.items() >= {"model.width": "14", "preset": "shopping"}.items()
        assert len(run.inputs.dataset_inputs) == 1
    assert (run.info.run_id, run.info.status, version.version) == (outcome["run"], "FINISHED", 1)
    assert outcome["metrics"] == trained.outcome["metrics"]
    assert (outcome["epochs"], outcome["chosen"]) == (trained.outcome["epochs"], trained.outcome["chosen"])
    assert measured(place, outcome["run"]) == measured(trained.place, trained.outcome["run"])
    folder = place.folder / outcome["folder"]
    assert read_card(registered) == read_card(folder)
    graphs = [path.joinpath("recommender.onnx").read_bytes() for path in (folder, trained.model)]
    assert len(graphs[0]) == len(graphs[1])
    assert {path.name for path in folder.parent.iterdir()} == {path.name for path in trained.model.parent.iterdir()}
    assert json.loads((folder.parent / "run.json").read_text(encoding="utf-8"))["state"] == "finished"


@pytest.mark.slow
def test_killed_at_every_stage_it_is_one_run_one_version_and_the_same_figures(trained, place) -> None:
    sources = [str(ROOT / source) for source in ("platform", "recsys", "speech", "pipelines")]
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sources)}
    killed = subprocess.run(
        [sys.executable, STAGES, ",".join(POINTS), *trained.arguments],
        cwd=place.folder, env=environment | place.environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert killed.returncode == 0, killed.stderr
    deaths = [json.loads(line) for line in killed.stdout.splitlines()]
    assert [death["point"] for death in deaths] == list(POINTS)
    assert len({death["run"] for death in deaths}) == 1
    assert [death["status"] for death in deaths] == ["RUNNING"] * 5 + ["FINISHED"]
    assert "Traceback" not in killed.stderr
    last = place.run(*trained.arguments)
    assert last.code == 0, last.err
    assert last.json["run"] == deaths[0]["run"]
    assert_whole(place, trained, last.json)


def test_stopped_by_the_user_it_says_how_to_go_on_and_goes_on(trained, place, monkeypatch) -> None:
    step = RecommenderTask.training_step

    def interrupted(task: RecommenderTask, batch: Any, number: int) -> Any:
        if (task.current_epoch, number) == (1, 3):
            signal.raise_signal(signal.SIGINT)
        return step(task, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(RecommenderTask, "training_step", interrupted)
        stopped = place.run(*trained.arguments)
    assert (stopped.code, stopped.out) == (130, "")
    assert stopped.err.splitlines()[-1].startswith(
        "headwise: training was stopped by Ctrl-C: 1 whole epoch is kept in "
    )
    with place.entered() as client:
        [run] = client.search_runs([client.get_experiment_by_name("recsys").experiment_id])
    assert run.info.status == "KILLED"
    continued = place.run(*trained.arguments)
    assert continued.code == 0, continued.err
    assert continued.json["run"] == run.info.run_id
    assert f"continued run {run.info.run_id}" in continued.err
    assert_whole(place, trained, continued.json)


def test_the_same_command_after_the_end_is_a_new_run(trained, place) -> None:
    arguments = [*trained.arguments, "--fit.epochs=1"]
    first, second = place.run(*arguments).json, place.run(*arguments).json
    assert first["run"] != second["run"]
    assert (first["version"], second["version"], second["champion"]) == (1, 2, False)
    assert first["metrics"] == second["metrics"]
