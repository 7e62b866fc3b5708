"""Times every attention kernel against the length of the sequence, in torch and in ONNX Runtime, and weighs its memory.

    python -m tests.bench.attention [--threads 1] [--rounds 3] [--longest 16384] [--table FILE] [--picture FILE]

Causal attention of one row, 4 heads of width 64. At each length the kernels take turns, so that a busy machine slows all of
them, and the median counts. Memory is the most that a process of its own holds beyond what it held before the call. A kernel that
would need too much is left out at the lengths beyond its bound below.
"""

import argparse
import ctypes
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import onnxruntime
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from headwise.attention import (
    Additive,
    Coordinates,
    Hierarchical,
    Kernel,
    Linear,
    Softmax,
    View,
    Window,
    causal,
    every,
    leading,
    rows,
    window,
)
from headwise.export import Graph, write

LENGTHS = [256 * 2**power for power in range(7)]
HEADS, HEAD_WIDTH, REACH = 4, 64, 128
BY_HAND = "F.sdpa by hand"
T = TypeVar("T")
Step = Callable[[Tensor, Tensor, Tensor], Tensor]
Runs = Mapping[str, Mapping[int, float]]  # kernel -> length -> milliseconds or MiB

KERNELS: dict[str, Callable[[], Kernel]] = {
    "softmax": Softmax,
    "additive": lambda: Additive(HEAD_WIDTH),
    "window": lambda: Window(window(REACH - 1)),
    "window, dilated": lambda: Window(window(4 * REACH - 4) & every(4)),
    "window, leading": lambda: Window(window(REACH - 1) | leading(4)),
    "linear": Linear,
    "hierarchical": lambda: Hierarchical(HEAD_WIDTH, REACH),
}
BOUNDS = {"additive": 1024}  # heads x length^2 x width numbers: 3 GiB at 1,024 with their gradients
SHADES = {
    BY_HAND: "#9aa0a8",
    "softmax": "#d1495b",
    "additive": "#7b4fa3",
    "window": "#1f5fbf",
    "window, dilated": "#5a9be6",
    "window, leading": "#0b2f66",
    "linear": "#2a9d8f",
    "hierarchical": "#e09f3e",
}


class Causal(nn.Module):
    """One kernel over a row of any length."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Queries, keys and values [1, heads, time, width]."""
        return self.kernel(query, key, value, View(_row(query), causal))


def by_hand(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What everybody calls."""
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def steps() -> dict[str, Step]:
    """What is timed, by name."""
    torch.manual_seed(0)
    return {BY_HAND: by_hand, **{name: Causal(make()) for name, make in KERNELS.items()}}


def torch_times(lengths: Sequence[int], rounds: int) -> tuple[Runs, Runs]:
    """Milliseconds forward, and forward and backward."""
    forward: dict[str, dict[int, list[float]]] = {}
    both: dict[str, dict[int, list[float]]] = {}
    for name, length, step, counts in _turns(steps(), lengths, rounds, BOUNDS):
        given = inputs(length)
        start = time.perf_counter()
        answer = step(*given)
        middle = time.perf_counter()
        torch.autograd.backward(answer.sum())
        end = time.perf_counter()
        if not counts:
            continue
        forward.setdefault(name, {}).setdefault(length, []).append(1e3 * (middle - start))
        both.setdefault(name, {}).setdefault(length, []).append(1e3 * (end - start))
    return _medians(forward), _medians(both)


def onnx_times(folder: Path, lengths: Sequence[int], rounds: int, threads: int) -> Runs:
    """Milliseconds of a forward pass in ONNX Runtime, of graphs in `folder`."""
    sessions = {name: session(folder, name, threads) for name in KERNELS}
    taken: dict[str, dict[int, list[float]]] = {}
    for name, length, run, counts in _turns(sessions, lengths, rounds, BOUNDS):
        given = {key: tensor.detach().numpy() for key, tensor in zip("qkv", inputs(length), strict=True)}
        start = time.perf_counter()
        run.run(None, given)
        if counts:
            taken.setdefault(name, {}).setdefault(length, []).append(1e3 * (time.perf_counter() - start))
    return _medians(taken)


def export(folder: Path) -> float:
    """Writes each kernel's graph; the largest difference from torch, at lengths that the export has not seen."""
    worst = 0.0
    for name, module in steps().items():
        if not isinstance(module, nn.Module):
            continue
        axes = {2: Dim("time", max=1 << 20)}
        example = {key: tensor.detach() for key, tensor in zip("qkv", inputs(300), strict=True)}
        graph = Graph(module.requires_grad_(False), example, ("answer",), dict.fromkeys(example, axes))
        write(graph, _file(folder, name), {})
        for length in (1, 63, 64, 129, 700):
            given = [tensor.detach() for tensor in inputs(length)]
            got = session(folder, name, 1).run(None, {k: t.numpy() for k, t in zip("qkv", given, strict=True)})[0]
            worst = max(worst, float(np.abs(got - module(*given).numpy()).max()))
    return worst


def session(folder: Path, name: str, threads: int) -> onnxruntime.InferenceSession:
    """A kernel's graph, ready."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(_file(folder, name), options, providers=["CPUExecutionProvider"])


def memory(folder: Path, lengths: Sequence[int]) -> tuple[Runs, Runs]:
    """MiB that a step of training holds at most, and that a pass in ONNX Runtime does; each kernel in a process of its own."""
    held: tuple[dict[str, Mapping[int, float]], dict[str, Mapping[int, float]]] = {}, {}
    for name in (BY_HAND, *KERNELS):
        for kind, runs in (("torch", held[0]), ("onnx", held[1])):
            if kind == "onnx" and name == BY_HAND:
                continue
            fitting = [length for length in lengths if length <= BOUNDS.get(name, length)]
            command = [sys.executable, __file__, "--weigh", kind, name, str(folder), *map(str, fitting)]
            answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            runs[name] = {int(length): mib for length, mib in json.loads(answer).items()}
    return held


def weigh(kind: str, name: str, folder: Path, lengths: Sequence[int]) -> dict[int, float]:
    """MiB that each length takes at most, one after another in this process."""
    torch.set_num_threads(1)
    held = {}
    for length in [lengths[0], *lengths]:  # the first pass makes what is made once
        run = _training_step(name) if kind == "torch" else _session_run(folder, name)
        given = inputs(length)
        before = _reset_peak()
        run(given)
        held[length] = max(0.0, _status("VmHWM") - before) / 1024
        del given, run
    return held


def inputs(length: int) -> list[Tensor]:
    """Queries, keys and values of one row."""
    return [torch.randn(1, HEADS, length, HEAD_WIDTH, requires_grad=True) for _ in range(3)]


def crossover(runs: Runs, name: str, other: str = "softmax") -> str:
    """From which length on `name` is faster, between the measured ones on a logarithmic scale."""
    shared = [length for length in runs[name] if length in runs[other]]
    ahead = [math.log(runs[other][length] / runs[name][length]) for length in shared]
    slower = [i for i, lead in enumerate(ahead) if lead <= 0]
    if not slower:
        return f"below {shared[0]:,}"
    last = slower[-1]
    if last == len(shared) - 1:
        return f"above {shared[-1]:,}"
    share = -ahead[last] / (ahead[last + 1] - ahead[last])
    length = shared[last] * (shared[last + 1] / shared[last]) ** share
    return f"about {10 * round(length / 10):,}"


def table(title: str, runs: Runs, lengths: Sequence[int]) -> str:
    """One row a kernel, in Markdown."""
    lines = [
        f"| {title} | " + " | ".join(f"{length:,}" for length in lengths) + " |",
        "|---|" + "---:|" * len(lengths),
    ]
    for name, by_length in runs.items():
        cells = [f"{by_length[length]:,.3g}" if length in by_length else "-" for length in lengths]
        cells = [
            f"{by_length[n]:,.0f}" if n in by_length and by_length[n] >= 100 else c
            for n, c in zip(lengths, cells, strict=True)
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(figures: Mapping[str, Runs], path: Path) -> None:
    """Time and memory against length, one panel a table."""
    figure = Figure(figsize=(11, 8), dpi=144, layout="constrained")
    for panel, (title, runs) in zip(figure.subplots(2, 2).flat, figures.items(), strict=True):
        for name, by_length in runs.items():
            lengths, values = zip(*sorted(by_length.items()), strict=True)
            style = "--" if name == BY_HAND else "-"
            panel.plot(
                lengths, values, style, color=SHADES[name], marker="o", markersize=3.5, linewidth=1.6, label=name
            )
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        ticks = sorted({length for by_length in runs.values() for length in by_length})
        panel.set_xticks(ticks, [f"{length:,}" for length in ticks])
        panel.set_title(title, fontsize=11, color="#22262c")
        panel.set_xlabel("tokens", fontsize=9, color="#5b616b")
        panel.grid(color="#e6e8eb", linewidth=0.8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8, colors="#5b616b", length=0)
    names = figure.axes[0].get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=len(SHADES), fontsize=8, frameon=False)
    figure.savefig(path)


def report(figures: Mapping[str, Runs], lengths: Sequence[int], threads: int, difference: float) -> str:
    """The tables, and what follows from them."""
    _, training, onnx, *_ = figures.values()
    longest = max(training["softmax"])
    ratio = statistics.median(training["softmax"][n] / training[BY_HAND][n] for n in lengths)
    lines = [
        f"torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}, {threads} thread(s) of {os.cpu_count()}",
        f"softmax / {BY_HAND}: {ratio:.3f} (median over lengths, forward and backward)",
        f"ONNX Runtime differs from torch by {difference:.1e} at most",
    ]
    for name in KERNELS:
        if name in ("softmax", "additive"):
            continue
        times = training["softmax"][longest] / training[name][longest]
        lines.append(
            f"{name}: faster than softmax from {crossover(training, name)} tokens in training, "
            f"{crossover(onnx, name)} in ONNX Runtime; {times:.1f}x at {longest:,}"
        )
    return "\n\n".join([*(table(title, runs, lengths) for title, runs in figures.items()), "\n".join(lines)]) + "\n"


def _row(query: Tensor) -> Coordinates:
    return rows(torch.full((1,), query.shape[2], dtype=torch.long), query.shape[2])


def _turns(
    things: Mapping[str, T], lengths: Sequence[int], rounds: int, bounds: Mapping[str, int]
) -> Iterator[tuple[str, int, T, bool]]:
    # Also says whether the turn counts: the first is the warm-up.
    for length in lengths:
        fitting = {name: thing for name, thing in things.items() if length <= bounds.get(name, length)}
        for turn in range(1 + rounds * max(1, 2048 // length)):  # the short ones, more often
            for name, thing in fitting.items():
                yield name, length, thing, turn > 0


def _medians(taken: Mapping[str, Mapping[int, list[float]]]) -> Runs:
    return {name: {length: statistics.median(ms) for length, ms in by.items()} for name, by in taken.items()}


def _training_step(name: str) -> Callable[[list[Tensor]], object]:
    step = steps()[name]
    return lambda given: torch.autograd.backward(step(*given).sum())


def _session_run(folder: Path, name: str) -> Callable[[list[Tensor]], object]:
    run = session(folder, name, 1)
    return lambda given: run.run(None, {k: tensor.detach().numpy() for k, tensor in zip("qkv", given, strict=True)})


def _reset_peak() -> float:
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier passes freed goes back to the system
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return float(line.split()[1])  # KiB


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(', ', '-')}.onnx"


def main() -> None:
    """Runs what the command line asks for."""
    if sys.argv[1:2] == ["--weigh"]:
        kind, name, place, *sizes = sys.argv[2:]
        print(json.dumps(weigh(kind, name, Path(place), [int(size) for size in sizes])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--longest", type=int, default=LENGTHS[-1])
    parser.add_argument("--table", type=Path, help="where the tables go, besides the screen")
    parser.add_argument("--picture", type=Path, help="where the plots go")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lengths = [length for length in LENGTHS if length <= options.longest]
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        difference = export(folder)
        forward, training = torch_times(lengths, options.rounds)
        onnx = onnx_times(folder, lengths, options.rounds, options.threads)
        held, held_onnx = memory(folder, lengths)
    figures = {
        "torch, forward (ms)": forward,
        "torch, forward and backward (ms)": training,
        "ONNX Runtime (ms)": onnx,
        "torch, forward and backward (MiB)": held,
        "ONNX Runtime (MiB)": held_onnx,
    }
    text = report(figures, lengths, options.threads, difference)
    print(text)
    if options.table:
        options.table.write_text(text)
    if options.picture:
        picture({title: runs for title, runs in figures.items() if runs is not forward}, options.picture)


if __name__ == "__main__":
    main()
