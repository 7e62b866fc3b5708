"""One command line, run again and again in processes that each die of SIGKILL at a point of their own.

    python stages.py POINT[,POINT ...] ARGUMENT...

For each point a child is forked from this process, in which nothing has happened yet but imports. It prints one JSON line
before it dies: the point, the run, and the run's status in the store at this moment.
"""

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import headwise_pipelines.launch as launch
import headwise_pipelines.recsys.export as export
import headwise_pipelines.recsys.train  # noqa: F401
from headwise.tracking.connection import connect
from headwise.training import checkpoints
from headwise.training.runs import RunFolder
from headwise_pipelines.command import main
from headwise_recsys.task import RecommenderTask

STEP = 3  # of the second epoch


def die(point: str) -> None:
    [record] = Path(".headwise/runs").glob("*/run.json")
    run = json.loads(record.read_text(encoding="utf-8"))["tracker"]
    store = os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")
    with sqlite3.connect(store) as database:
        [(status,)] = database.execute("select status from runs where run_uuid = ?", [run])
    print(json.dumps({"point": point, "run": run, "status": status}), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def training() -> None:
    step = RecommenderTask.training_step

    def deadly(task: RecommenderTask, batch: Any, number: int) -> Any:
        if (task.current_epoch, number) == (1, STEP):
            die("training")
        return step(task, batch, number)

    RecommenderTask.training_step = deadly  # type: ignore[method-assign]


def checkpoint() -> None:
    def half(_: Any, file: Any) -> None:
        file.write(b"half")
        file.flush()
        die("checkpoint")

    checkpoints.torch.save = half


def writing() -> None:
    export._write_json = lambda path, value: die("writing")


def register() -> None:
    launch.register = lambda *_, **__: die("register")


def promote() -> None:
    launch.promote = lambda *_, **__: die("promote")  # registered by then


def finish() -> None:
    RunFolder.finish = lambda _: die("finish")  # type: ignore[method-assign]


POINTS: dict[str, Callable[[], None]] = {
    point.__name__: point for point in (training, checkpoint, writing, register, promote, finish)
}

if __name__ == "__main__":
    connect()
    for name in sys.argv[1].split(","):
        child = os.fork()
        if not child:
            POINTS[name]()
            os._exit(main(sys.argv[2:]))
        _, ended = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(ended) == -signal.SIGKILL, (name, ended)
