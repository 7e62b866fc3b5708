"""Metrics that travel in batches, and wait on the disk while the server is away."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from headwise.errors import HeadwiseError
from headwise.files import replacing

FULL = 500  # points that are sent at once; one by one each costs 14 ms, in a batch 0.2 ms
PERIOD = 5.0  # seconds that a point waits at most, unless nothing is logged after it
PAUSE = 30.0  # seconds before a server that did not answer is asked again
LIMIT = 1000  # points that MLflow takes in one call


class Point(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    milliseconds: int  # since 1970
    step: int


class Batches:
    """Collects points and sends them together. A server that does not answer never stops training.

    While it is away the points wait in memory and in `spool`, until the next attempt, the end of the run, or the process
    that resumes it sends them.
    """

    def __init__(self, send: Callable[[Sequence[Point]], None], spool: Path) -> None:
        self._send, self._spool = send, spool
        self._points = _read(spool)
        self._next = time.monotonic() + PERIOD

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Take values measured at a step."""
        now = time.time_ns() // 1_000_000
        self._points.extend(Point(name, float(value), now, step) for name, value in values.items())
        late = time.monotonic() >= self._next
        # While the server is away `_next` lies ahead and a full batch waits for it, too.
        if late or (len(self._points) >= FULL and not self._spool.exists()):
            self.flush()

    def flush(self) -> None:
        """Send what waits; when the server is away, keep it and say so once."""
        away = self._spool.exists()
        try:
            self._drain()
        except HeadwiseError as error:
            self._next = time.monotonic() + PAUSE
            _write(self._spool, self._points)
            if not away:
                print(f"{error}; metrics wait in {self._spool}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Send what waits, for the last time.

        Raises:
            HeadwiseError: the server is away; the points are in `spool`.
        """
        try:
            self._drain()
        except HeadwiseError as error:
            _write(self._spool, self._points)
            raise HeadwiseError(f"{error}; {len(self._points)} values wait in {self._spool}") from error

    def _drain(self) -> None:
        while self._points:
            self._send(self._points[:LIMIT])
            del self._points[:LIMIT]
        self._spool.unlink(missing_ok=True)
        self._next = time.monotonic() + PERIOD


def _read(spool: Path) -> list[Point]:
    if not spool.is_file():
        return []
    return [Point(*json.loads(line)) for line in spool.read_text(encoding="utf-8").splitlines()]


def _write(spool: Path, points: Sequence[Point]) -> None:
    with replacing(spool) as draft:
        draft.write_text("".join(json.dumps(point) + "\n" for point in points), encoding="utf-8")
