"""One run in two processes is one run: the same figures, one tracker's run, one model."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STILL = {"model.width": 14, "model.window": 17, "model.blocks": 1, "model.dropout": 0.0, "tokens": 307,
         "optimizer.warmup": 5, "fit.epochs": 2, "fit.threads": 1}  # fmt: skip


@pytest.mark.slow
def test_two_processes_make_the_run_that_one_makes(new_place: Callable[[], Any], shop: Path) -> None:
    outcomes, histories = [], []
    sources = [str(ROOT / source) for source in ("platform", "recsys", "speech", "pipelines")]
    for devices, start in ((1, []), (2, ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"])):
        place, flags = new_place(), [f"--{name}={value}" for name, value in STILL.items()]
        command = ["-m", "headwise_pipelines.command", "train", "recsys", "shopping", "--data", str(shop), *flags]
        ran = subprocess.run(
            [sys.executable, *start, *command, f"--fit.devices={devices}", "--fit.accelerator=cpu", "--json"],
            cwd=place.folder, env={**os.environ, "PYTHONPATH": ":".join(sources), "OMP_NUM_THREADS": "1"} | place.environment,
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        [line] = [line for line in ran.stdout.splitlines() if line.startswith("{")]  # the first process alone answers
        outcomes.append(json.loads(line))
        with place.entered() as client:
            [run] = client.search_runs([client.get_experiment_by_name("recsys").experiment_id])
            losses = client.get_metric_history(run.info.run_id, "train/loss")
            histories.append([loss.value for loss in losses])
            assert run.info.status == "FINISHED"
    one, two = outcomes
    assert two["metrics"] == pytest.approx(one["metrics"], abs=0.02)  # a few of 211 users' ranks, by rounding
    assert histories[1] == pytest.approx(histories[0], rel=1e-3)
    assert two["version"] == one["version"] == 1
