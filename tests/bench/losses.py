"""Times the exact loss against F.cross_entropy: value and both gradients of one batch.

    python tests/bench/losses.py [--threads 1] [--width 64] [--repeats 3]

The two take turns, so that a busy machine slows both; the median counts. Memory is the most that each holds at once beyond
its inputs, measured in a process of its own. Below the table stands how far the two differ.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from headwise_recsys.losses import softmax_cross_entropy

SIZES = [(12101, 1024), (3416, 4096), (3416, 13824), (100_003, 256)]  # items, positions: Beauty, MovieLens 1M, large
HEADER = f"{'items':>8} {'positions':>10}   {'F.cross_entropy':>22} {'headwise':>20} {'faster':>7} {'less memory':>12}"

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def textbook(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The loss as everybody writes it, with all logits at once."""
    return F.cross_entropy(hidden @ weight.T, targets)


LOSSES: dict[str, Loss] = {"textbook": textbook, "headwise": softmax_cross_entropy}


def inputs(items: int, positions: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a trained model's batch looks like: norms of the order of one a dimension, small embeddings."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(positions, width), torch.randn(items, width) * width**-0.5
    return hidden.requires_grad_(), weight.requires_grad_(), torch.randint(items, (positions,))


def step(loss: Loss, given: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    """The value and the gradients of `hidden` and `weight`."""
    value = loss(*given)
    return (value.detach(), *torch.autograd.grad(value, given[:2]))


def seconds(given: tuple[Tensor, Tensor, Tensor], repeats: int) -> dict[str, float]:
    """Median seconds of one step of each."""
    taken: dict[str, list[float]] = {name: [] for name in LOSSES}
    for turn in range(repeats + 1):
        for name, loss in LOSSES.items():
            start = time.perf_counter()
            step(loss, given)
            if turn:  # the first is the warm-up
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def peak_megabytes(name: str, items: int, positions: int, width: int) -> float:
    """Resident memory that one step adds to a process that already holds its inputs and has done a small step."""
    command = [sys.executable, __file__, "--peak", name, f"{items}", f"{positions}", f"{width}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_peak(name: str, items: int, positions: int, width: int) -> float:
    """The same, in this process."""
    torch.set_num_threads(1)
    step(LOSSES[name], inputs(97, 89, width))
    given = inputs(items, positions, width)
    before = _status("VmRSS")
    step(LOSSES[name], given)
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    # In kB. Not getrusage: a child inherits the peak of the process that started it.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak", nargs=4, metavar=("LOSS", "ITEMS", "POSITIONS", "WIDTH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(measure_peak(options.peak[0], *map(int, options.peak[1:])))
        return
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s), width {options.width}\n\n{HEADER}")
    differences = []
    for items, positions in SIZES:
        given = inputs(items, positions, options.width)
        took = seconds(given, options.repeats)
        peak = {name: peak_megabytes(name, items, positions, options.width) for name in LOSSES}
        cells = {name: f"{1000 * took[name]:.0f} ms, {peak[name]:.0f} MB" for name in LOSSES}
        faster, less = took["textbook"] / took["headwise"], peak["textbook"] / peak["headwise"]
        print(
            f"{items:8,} {positions:10,}   {cells['textbook']:>22} {cells['headwise']:>20} {faster:6.1f}x {less:11.1f}x",
            flush=True,
        )
        pairs = zip(step(textbook, given), step(softmax_cross_entropy, given), strict=True)
        differences.append([float((a - b).abs().max() / a.abs().max()) for a, b in pairs])
    value, hidden, weight = (max(column) for column in zip(*differences, strict=True))
    print(f"\nlargest relative difference: loss {value:.1e}, gradients {hidden:.1e} and {weight:.1e}")


if __name__ == "__main__":
    main()
