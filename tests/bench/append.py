"""Times one new event by the graph with a memory beside recomputing its history of 200 items, in ONNX Runtime at batch 1.

    python -m tests.bench.append [--items 3416] [--blocks 2] [--threads 1] [--repeats 201]

The two take turns, so that a busy machine slows both; medians count. Search, which both do alike, is included, so that with few
items the rest is what the model costs.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from headwise.export import Graph, write
from headwise.serving.session import Session
from headwise_recsys.graph import recommender_graph
from headwise_recsys.incremental import append_graph
from headwise_recsys.model import sasrec

WINDOW, K = 200, 10


def session(graph: Graph, path: Path, threads: int) -> Session:
    """The graph as it is served."""
    write(graph, path, {})
    return Session(path, inputs=graph.inputs, outputs=graph.outputs, threads=threads)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=3416)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=201)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = sasrec(options.items, window=WINDOW, blocks=options.blocks).eval().requires_grad_(False)
    memory = model.encoder.empty_states(1, WINDOW)
    history = np.random.default_rng(0).integers(1, options.items + 1, (1, WINDOW))
    none = np.zeros((1, 1), np.int64)
    lists = {"k": np.array(K), "exclude": none, "allow": none}
    with tempfile.TemporaryDirectory() as folder:
        whole = session(recommender_graph(model), Path(folder) / "whole.onnx", options.threads)
        append = session(append_graph(model), Path(folder) / "append.onnx", options.threads)
        empty = {
            "history": np.zeros((1, WINDOW), np.int64),
            "keys": torch.stack([state.attention.key for state in memory], 1).numpy(),
            "values": torch.stack([state.attention.value for state in memory], 1).numpy(),
        }
        _, _, *after = append.run(events=history[:, :-1], **empty, **lists)
        before = dict(zip(empty, after, strict=True))
        taken: dict[str, list[float]] = {"all 200 items": [], "one new event": []}
        for _ in range(options.repeats):
            start = time.perf_counter()
            want = whole.run(history=history, lengths=np.array([WINDOW]), **lists)
            middle = time.perf_counter()
            got = append.run(events=history[:, -1:], **before, **lists)
            taken["all 200 items"].append(1000 * (middle - start))
            taken["one new event"].append(1000 * (time.perf_counter() - middle))
    print(f"{options.items:,} items, {options.blocks} blocks of width 64, batch 1, {options.threads} thread(s)\n")
    for name, times in taken.items():
        print(f"{name:<14} {statistics.median(times):7.3f} ms")
    share = statistics.median(taken["one new event"]) / statistics.median(taken["all 200 items"])
    same = "the same" if np.array_equal(want[0], got[0]) else "OTHER"
    print(
        f"\none event costs {100 * share:.0f} % of recomputing; {same} items, scores within {np.abs(want[1] - got[1]).max():.1e}"
    )
    print(f"memory of a history: {sum(value.nbytes for value in before.values()) / 1024:.0f} kB")


if __name__ == "__main__":
    main()
