"""Ten minutes at 80 % of what a server can do, while its alias moves ten times, one of them to a broken model.

    python -m tests.bench.soak [--minutes 10] [--load 0.8] [--moves 10]

Trains two small recommenders on generated data and registers a third whose weights were changed after its export. Then a
server follows `models:/recommender@champion`. Requests are sent at fixed moments, whether those before them were answered or
not, so a server that stalls shows it: a latency counts from the moment at which the request was due. One JSON object is
printed at the end; the exit code is 1 if a request failed.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import onnx
import psutil
from tests.bench.serve_load import Tally, answer, load, recommendation_bodies, request_bytes

from headwise.examples import Examples
from headwise.model_folder import CARD, read_card, writing
from headwise.tracking.connection import connect
from headwise.tracking.registry import fetch, register
from headwise.tracking.run import Run
from headwise_recsys import shopping

CLIENTS = 32
WARM = 10.0  # seconds of the measurement of what the server can do
GRAPH = "recommender.onnx"


@dataclass
class Soak:
    """What was seen."""

    tally: Tally = field(default_factory=Tally)
    memory: list[float] = field(default_factory=list)  # MiB, every second
    late: int = 0  # requests that were due while all connections were in use


def prepare(work: Path) -> None:
    """Three versions in a registry under `work`: two that were trained, and a broken one."""
    shopping.write(work / "shopping")
    for seed in (1, 2):
        command = [sys.executable, "-m", "headwise_pipelines.command", "train", "recsys", "shopping"]
        command += ["--data", str(work / "shopping"), "--fit.epochs", "1", "--fit.seed", str(seed)]
        subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    whole = fetch("models:/recommender/2", work / "fetched")
    broken = work / "broken"
    with writing(broken, read_card(whole)) as draft:
        for path in whole.iterdir():
            if path.name != CARD:
                (draft / path.name).write_bytes(path.read_bytes())
        model = onnx.load(draft / GRAPH)
        for weights in model.graph.initializer:
            value = onnx.numpy_helper.to_array(weights)
            if value.dtype == np.float32 and value.ndim == 2:
                weights.CopyFrom(onnx.numpy_helper.from_array(value[::-1].copy(), weights.name))
        onnx.save(model, draft / GRAPH)
    example = Examples.load(whole)
    assert example is not None
    with Run("recsys", "broken", work / "run") as run:
        register(
            run, broken, "recommender", example=example.asked, requirements=[], description="", metrics={}, data=""
        )


@contextmanager
def served(work: Path) -> Iterator[tuple[str, int]]:
    """Address and process id of a server that follows the champion."""
    command = [
        sys.executable,
        "-m",
        "headwise_pipelines.command",
        "serve",
        "models:/recommender@champion",
        "--port",
        "0",
    ]
    with (work / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1], process.pid
        finally:
            process.terminate()
            process.wait(60)


async def steady(url: str, requests: list[bytes], rate: float, seconds: float, soak: Soak) -> None:
    """Sends `rate` requests a second, each at its own moment."""
    due: asyncio.Queue[float | None] = asyncio.Queue()
    idle = CLIENTS

    async def connection(offset: int) -> None:
        nonlocal idle
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        turn = offset
        while (moment := await due.get()) is not None:
            idle -= 1
            try:
                writer.write(requests[turn % len(requests)])
                status = await answer(reader)
            except (OSError, asyncio.IncompleteReadError) as error:
                status = type(error).__name__
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            soak.tally.seconds.append(time.perf_counter() - moment)
            soak.tally.statuses[status] += 1
            turn += 1
            idle += 1
        writer.close()

    connections = [asyncio.create_task(connection(n * 29)) for n in range(CLIENTS)]
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        moment = began + number / rate
        if (wait := moment - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        soak.late += not idle
        due.put_nowait(moment)
    for _ in connections:
        due.put_nowait(None)
    await asyncio.gather(*connections)


async def move_alias(versions: list[str], every: float) -> None:
    """Gives the alias to one version after the other."""
    client = connect().MlflowClient()
    for version in versions:
        await asyncio.sleep(every)
        await asyncio.to_thread(client.set_registered_model_alias, "recommender", "champion", version)


async def watch_memory(pid: int, soak: Soak) -> None:
    """Notes the server's resident memory every second."""
    process = psutil.Process(pid)
    while True:
        soak.memory.append(process.memory_info().rss / 2**20)
        await asyncio.sleep(1)


async def run(work: Path, minutes: float, share: float, moves: int) -> dict[str, Any]:
    """The whole of it; the report."""
    versions = ["2" if turn % 2 == 0 else "1" for turn in range(moves)]
    versions[moves // 2] = "3"
    soak = Soak()
    with served(work) as (url, pid):
        folder = fetch("models:/recommender/1", work / "fetched")
        bodies = recommendation_bodies(folder, 50, 10)
        requests = [
            request_bytes(urlsplit(url).netloc, "/v1/recommendations", "application/json", each) for each in bodies
        ]
        capacity = (await load(url, requests, CLIENTS, WARM))["requests_per_second"]
        others = [
            asyncio.create_task(watch_memory(pid, soak)),
            asyncio.create_task(move_alias(versions, 60 * minutes / (moves + 1))),
        ]
        began = time.perf_counter()
        await steady(url, requests, share * capacity, 60 * minutes, soak)
        report = soak.tally.report(time.perf_counter() - began, CLIENTS)
        for task in others:
            task.cancel()
        metrics = (await asyncio.to_thread(urlopen, f"{url}/metrics")).read().decode()
    quarter = max(1, len(soak.memory) // 4)
    changes = [line for line in metrics.splitlines() if line.startswith("headwise_model_changes_total")]
    return report | {
        "capacity": capacity,
        "rate": round(share * capacity, 1),
        "sent_late": soak.late,
        "moves": versions,
        "changes": changes,
        "memory_first_quarter": round(float(np.median(soak.memory[:quarter])), 1),
        "memory_last_quarter": round(float(np.median(soak.memory[-quarter:])), 1),
        "memory_most": round(max(soak.memory), 1),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="(default: %(default)s)")
    parser.add_argument(
        "--load", type=float, default=0.8, help="share of what the server can do (default: %(default)s)"
    )
    parser.add_argument("--moves", type=int, default=10, help="of the alias (default: %(default)s)")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="headwise-soak-") as scratch:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch}/mlflow.db"
        os.chdir(scratch)
        prepare(Path(scratch))
        report = asyncio.run(run(Path(scratch), options.minutes, options.load, options.moves))
    print(json.dumps(report, indent=1))
    sys.exit(1 if report["errors"] else 0)


if __name__ == "__main__":
    main()
