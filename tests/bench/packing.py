"""Times a training step on packed rows against the same histories padded to the window, one to a row: real positions a second.

    python tests/bench/packing.py [--threads 1] [--steps 7]

Histories have the lengths of MovieLens 1M and of Amazon Beauty (lognormal), the model is a SASRec of the default size, and the
loss is the exact one at real positions in both, so that the difference is the encoder's work on padding. They take turns.
"""

import argparse
import itertools
import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch

from headwise_recsys.batches import Packed, PackedOrder, PackedRows, Windows
from headwise_recsys.interactions import Interactions
from headwise_recsys.losses import softmax_cross_entropy
from headwise_recsys.model import SASRec, sasrec

HEADER = f"{'lengths like':<14} {'window':>6} {'fill padded':>12} {'packed':>7}   {'padded/s':>9} {'packed/s':>9} {'faster':>7}"


@dataclass(frozen=True)
class Lengths:
    """How long the histories of a data set are."""

    name: str
    median: float
    spread: float  # standard deviation of the logarithm
    items: int
    window: int
    tokens: int  # real positions a batch


SETS = [Lengths("MovieLens 1M", 96, 0.9, 3416, 200, 8192), Lengths("Beauty", 6, 0.7, 12101, 50, 2048)]


def histories(lengths: Lengths, users: int) -> Interactions:
    """Random items in histories of such lengths."""
    rng = np.random.default_rng(0)
    counts = np.maximum(3, rng.lognormal(np.log(lengths.median), lengths.spread, users)).astype(np.int64)
    items = rng.integers(1, lengths.items + 1, counts.sum()).astype(np.int32)
    names = list(range(lengths.items))
    return Interactions(items, None, np.cumsum([0, *counts]), list(range(users)), names, None, lengths.name, "", "")  # type: ignore[arg-type]


def padded(batch: list[Windows]) -> list[Windows]:
    """The same windows, one to a row."""
    return [window[None] for row in batch for window in row]


def train(model: SASRec, optimizer: torch.optim.Optimizer, batch: Packed) -> tuple[int, float]:
    """Real positions of one training step, and its seconds."""
    start = time.perf_counter()
    real = batch.at.segment > 0
    hidden = model(batch.items, batch.at)[real]
    softmax_cross_entropy(hidden, model.embedding.weight[1:], batch.targets[real] - 1).backward()
    optimizer.step()
    optimizer.zero_grad()
    return int(real.sum()), time.perf_counter() - start


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s), median of {options.steps} steps\n\n{HEADER}")
    for lengths in SETS:
        data = histories(lengths, 2003)
        order = PackedOrder(data, data.offsets[1:], window=lengths.window, tokens=lengths.tokens, seed=0)
        rows = PackedRows(data.items, lengths.window)
        model = sasrec(lengths.items, window=lengths.window, dropout=0.2)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        speeds: dict[str, list[float]] = {"padded": [], "packed": []}
        fill: dict[str, float] = {}
        for number, drawn in enumerate(itertools.islice(order, options.steps + 1)):
            for name, batch in (("padded", rows[padded(drawn)]), ("packed", rows[drawn])):
                real, seconds = train(model, optimizer, batch)
                fill[name] = real / batch.items.numel()
                if number:  # the first is the warm-up
                    speeds[name].append(real / seconds)
        median = {name: statistics.median(values) for name, values in speeds.items()}
        print(
            f"{lengths.name:<14} {lengths.window:6} {fill['padded']:12.0%} {fill['packed']:7.0%}   "
            f"{median['padded']:9,.0f} {median['packed']:9,.0f} {median['packed'] / median['padded']:6.1f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
