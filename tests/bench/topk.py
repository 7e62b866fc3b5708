"""Times the served graph over a catalogue of a million items beside one reading of its table from memory.

    python -m tests.bench.topk [--items 1000000] [--width 64] [--threads 1] [--repeats 31]

The model has new weights, histories of 200 items, k 10, batch 1. Reading is a sum over the table by torch, which is as fast as
memory gives it. Everything takes turns, so that a busy machine slows all; medians count. The quantised graph is compared
with the exact one on 200 histories.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from headwise.export import write
from headwise.serving.session import Session
from headwise_recsys.graph import recommender_graph
from headwise_recsys.model import SASRec, sasrec

WINDOW, K, COMPARED = 200, 10, 200
INPUTS, OUTPUTS = ("history", "lengths", "k", "exclude", "allow"), ("items", "scores")


def session(model: SASRec, folder: Path, threads: int, *, quantised: bool) -> Session:
    """The graph as it is served."""
    path = folder / f"{'quantised' if quantised else 'exact'}.onnx"
    write(recommender_graph(model, quantised=quantised), path, {})
    return Session(path, inputs=INPUTS, outputs=OUTPUTS, threads=threads)


def question(rng: np.random.Generator, items: int) -> dict[str, np.ndarray]:
    """A whole history and no lists."""
    none = np.zeros((1, 1), np.int64)
    history = rng.integers(1, items + 1, (1, WINDOW))
    return {"history": history, "lengths": np.array([WINDOW]), "k": np.array(K), "exclude": none, "allow": none}


def milliseconds(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median of each, in turns; the first is a warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats + 1):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if turn:
                taken[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=31)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = sasrec(options.items, window=WINDOW, width=options.width).eval().requires_grad_(False)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        exact = session(model, Path(folder), options.threads, quantised=False)
        quantised = session(model, Path(folder), options.threads, quantised=True)
        asked = question(rng, options.items)
        took = milliseconds(
            {
                "reading the table once": model.embedding.weight.sum,
                "exact top 10": lambda: exact.run(**asked),
                "8-bit scan, 64 exactly": lambda: quantised.run(**asked),
            },
            options.repeats,
        )
        found = []
        for _ in range(COMPARED):
            asked = question(rng, options.items)
            found.append(np.isin(exact.run(**asked)[0], quantised.run(**asked)[0]).mean())
    size = options.items * options.width * 4 / 2**20
    print(
        f"{options.items:,} items x {options.width}, {size:.0f} MB, batch 1, {options.threads} thread(s), median of turns\n"
    )
    for name, time_ in took.items():
        print(f"{name:<24} {time_:6.1f} ms   {time_ / took['reading the table once']:5.2f}x")
    print(f"\nrecall of the exact top {K} by the quantised graph, {COMPARED} histories: {np.mean(found):.4f}")


if __name__ == "__main__":
    main()
