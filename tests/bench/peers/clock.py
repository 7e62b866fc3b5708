"""What every driver is asked and answers, and the clock that all are timed by: a callback of Lightning, which all train with.

It knows neither headwise nor a peer, since it runs in the environment of each.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WARM_UP = 2  # steps that are not timed


class Enough(Exception):
    """The clock has seen enough: training is left where it stands."""


def asked(description: str | None) -> argparse.Namespace:
    """The command line of a driver; torch is told how many threads there are."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="lines of `user item [item ...]` in the order of time")
    parser.add_argument("--window", type=int, required=True)
    parser.add_argument("--loss", choices=["softmax", "bce"], default="softmax")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="of training to time")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--users", type=int, default=128, help="of a batch")
    parser.add_argument("--positions", type=int, default=0, help="of a batch, for whoever does not count it in users")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    return options


def histories(file: Path) -> list[tuple[int, list[int]]]:
    """User and items of every line, for files that no reader of tables reads."""
    lines = ([int(word) for word in line.split()] for line in file.open())
    return [(user, items) for user, *items in lines]


class Stopwatch:
    """When each step ended, and how many positions with a target it had."""

    def __init__(self, real: Callable[[Any], int], seconds: float) -> None:
        """Counts a batch by `real` and stops training after `seconds` beyond the warm-up."""
        self._real, self._seconds = real, seconds
        self._ends: list[tuple[float, float, int]] = []

    def step(self, batch: Any) -> None:
        """A step has ended: with all that the trainer did since the last one, its own loader's work included."""
        self._ends.append((time.perf_counter(), time.process_time(), self._real(batch)))
        if len(self._ends) > WARM_UP + 1 and self._ends[-1][0] - self._ends[WARM_UP][0] > self._seconds:
            raise Enough

    def __deepcopy__(self, _: Any) -> "Stopwatch":
        return self  # RecTools trains with a copy of its trainer

    def answer(self, tool: str, version: str, prepared: float) -> None:
        """One line of JSON: positions a second, by the clock and by the processor's, and the processor's seconds of preparing."""
        import torch

        (since, worked, _), (until, at_last, _) = self._ends[WARM_UP], self._ends[-1]
        timed = [positions for _, _, positions in self._ends[WARM_UP + 1 :]]
        told = {
            "tool": f"{tool} {version}",
            "torch": torch.__version__,
            "prepared": prepared,
            "positions": sum(timed) / len(timed),
            "speed": sum(timed) / (until - since),
            "alone": sum(timed) / (at_last - worked),
        }
        print(json.dumps(told), flush=True)
        os._exit(0)  # a training that was left in its middle has nothing to tidy up


def callback(lightning: type, stopwatch: Stopwatch) -> Any:
    """A callback of the class `lightning.Callback`, which tools import from either of its two packages."""

    class Clock(lightning):  # type: ignore[misc]
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            stopwatch.step(batch)

    return Clock()
