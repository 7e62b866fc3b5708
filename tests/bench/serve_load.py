"""Loads a running server and tells how it held up: throughput, latency, errors.

    headwise serve models:/recommender@champion &
    python tests/bench/serve_load.py --model-folder FOLDER                   # random histories from its items.json
    python tests/bench/serve_load.py --audio seven.wav                       # transcriptions

Clients send over kept-alive connections, one request after another each, and speak plain HTTP/1.1 over asyncio streams,
since a client library would cost more than the server that it measures. One JSON object is printed at the end.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

BOUNDARY = "headwise-load"
HISTORIES = 997  # different bodies that are sent in turn


@dataclass
class Tally:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def report(self, elapsed: float, clients: int) -> dict[str, Any]:
        """Throughput in requests a second, latency in milliseconds, and how many answers were not 200."""
        total = sum(self.statuses.values())
        quantiles = np.quantile(self.seconds or [np.nan], [0.5, 0.9, 0.99, 1.0]) * 1000
        return {
            "clients": clients,
            "seconds": round(elapsed, 2),
            "requests": total,
            "requests_per_second": round(total / elapsed, 1),
            **dict(zip(("p50_ms", "p90_ms", "p99_ms", "max_ms"), np.round(quantiles, 2).tolist(), strict=True)),
            "statuses": dict(self.statuses),
            "errors": total - self.statuses["200"],
        }


def recommendation_bodies(folder: Path, length: int, k: int) -> list[bytes]:
    """JSON bodies with random histories of up to `length` items of a recommender's catalogue."""
    items = json.loads((folder / "items.json").read_text(encoding="utf-8"))
    chance = random.Random(0)
    histories = [chance.choices(items, k=chance.randint(1, length)) for _ in range(HISTORIES)]
    return [json.dumps({"history": history, "k": k}).encode() for history in histories]


def transcription_body(audio: Path) -> bytes:
    """The multipart form with one recording."""
    head = (
        f"--{BOUNDARY}\r\n"
        f'Content-Disposition: form-data; name="file"; filename="{audio.name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + audio.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()


def request_bytes(host: str, path: str, kind: str, body: bytes) -> bytes:
    """One whole POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def client(url: str, requests: list[bytes], offset: int, until: float, tally: Tally) -> None:
    """Sends requests one after another until a moment of the event loop's clock; a cut connection is opened anew."""
    parts = urlsplit(url)
    turn = offset
    while time.perf_counter() < until:
        try:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
        except OSError as error:
            tally.statuses[type(error).__name__] += 1
            await asyncio.sleep(0.1)
            continue
        try:
            while time.perf_counter() < until:
                began = time.perf_counter()
                writer.write(requests[turn % len(requests)])
                turn += 1
                status = await answer(reader)
                tally.seconds.append(time.perf_counter() - began)
                tally.statuses[status] += 1
        except (OSError, asyncio.IncompleteReadError) as error:
            tally.statuses[type(error).__name__] += 1
        finally:
            writer.close()


async def answer(reader: asyncio.StreamReader) -> str:
    """Reads one answer to its end and gives its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = next(int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:"))
    await reader.readexactly(length)
    return head[9:12]


async def load(url: str, requests: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Runs all clients for so many seconds."""
    tally = Tally()
    began = time.perf_counter()
    every = len(requests) // clients or 1
    await asyncio.gather(*(client(url, requests, n * every, began + seconds, tally) for n in range(clients)))
    return tally.report(time.perf_counter() - began, clients)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (default: %(default)s)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model-folder", type=Path, help="ask for recommendations; histories come from its items.json")
    what.add_argument("--audio", type=Path, help="ask for transcriptions of this recording")
    parser.add_argument("--clients", type=int, default=32, help="at the same time (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="(default: %(default)s)")
    parser.add_argument("--history", type=int, default=50, help="longest history in items (default: %(default)s)")
    parser.add_argument("--k", type=int, default=10, help="items to ask for (default: %(default)s)")
    options = parser.parse_args()
    if options.audio:
        path, kind = "/v1/audio/transcriptions", f"multipart/form-data; boundary={BOUNDARY}"
        bodies = [transcription_body(options.audio)]
    else:
        path, kind = "/v1/recommendations", "application/json"
        bodies = recommendation_bodies(options.model_folder, options.history, options.k)
    host = urlsplit(options.url).netloc
    requests = [request_bytes(host, path, kind, body) for body in bodies]
    report = asyncio.run(load(options.url, requests, options.clients, options.seconds))
    print(json.dumps(report))
    sys.exit(1 if report["errors"] else 0)


if __name__ == "__main__":
    main()
