"""Times a training step of both products with each attention kernel, at the lengths of their data and at longer ones.

    python -m tests.bench.mechanisms [--threads 1] [--rounds 5]

Models have the sizes of the presets `ml-1m` and `an4` and kernels those of their flags. At each length the kernels take turns,
so that a busy machine slows all of them, and the median counts.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from headwise.attention import rows
from headwise_pipelines.mechanisms import kernels
from headwise_recsys.losses import softmax_cross_entropy
from headwise_recsys.model import sasrec
from headwise_speech.model import recogniser

KERNELS = ("softmax", "window", "linear", "hierarchical")
ITEMS, TOKENS, HISTORIES = 3416, 4096, (200, 1000, 4000)
SAMPLE_RATE, SECONDS, UTTERANCES = 16_000, 40, (2.5, 20.0, 120.0)
Step = Callable[[], Tensor]


def recommender(kernel: str, history: int) -> Step:
    """The loss of a batch of about TOKENS items, in whole histories of one length."""
    torch.manual_seed(0)
    make = kernels(kernel, 32, reach=32, ahead=0)
    model = sasrec(ITEMS, window=history, width=64, blocks=2, heads=2, kernel=make, dropout=0.2)
    count = max(1, TOKENS // history)
    items = torch.randint(1, ITEMS + 1, (count, history))
    at = rows(torch.full((count,), history), history)
    return lambda: softmax_cross_entropy(
        model(items, at).flatten(0, 1), model.embedding.weight[1:], (items.roll(-1, 1) - 1).flatten()
    )


def listener(kernel: str, seconds: float) -> Step:
    """The loss of a batch of about SECONDS of audio, in utterances of one length."""
    torch.manual_seed(0)
    make = kernels(kernel, 36, reach=16, ahead=16)
    model = recogniser(30, width=144, blocks=4, heads=4, dropout=0.15, kernel=make)
    count, frames = max(1, round(SECONDS / seconds)), round(100 * seconds)
    spectrogram, lengths = torch.randn(count, frames, 80), torch.full((count,), frames)
    said = max(1, round(5 * seconds))  # characters
    texts, counts = torch.randint(1, 30, (count, said)), torch.full((count,), said)

    def loss() -> Tensor:
        log_probs, times = model.log_probs(spectrogram, lengths)
        return F.ctc_loss(log_probs.transpose(0, 1), texts, times, counts)

    return loss


def milliseconds(steps: Mapping[str, Step], rounds: int) -> dict[str, float]:
    """Median of a step forward and backward, by kernel."""
    taken: dict[str, list[float]] = {kernel: [] for kernel in steps}
    for turn in range(rounds + 1):
        for kernel, step in steps.items():
            start = time.perf_counter()
            torch.autograd.backward(step())
            if turn:  # the first is the warm-up
                taken[kernel].append(1e3 * (time.perf_counter() - start))
    return {kernel: statistics.median(times) for kernel, times in taken.items()}


def main() -> None:
    """Prints one row a length, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| a training step (ms) | " + " | ".join(KERNELS) + " |\n|---|" + "---:|" * len(KERNELS))
    for history in HISTORIES:
        row(f"{max(1, TOKENS // history)} histories of {history:,} items", recommender, history, options.rounds)
    for seconds in UTTERANCES:
        count = max(1, round(SECONDS / seconds))
        row(f"{count} utterance(s) of {seconds:g} s", listener, seconds, options.rounds)


def row(name: str, make: Callable[[str, float], Step] | Callable[[str, int], Step], length: float, rounds: int) -> None:
    """One row: milliseconds, and how many times faster than softmax."""
    taken = milliseconds({kernel: make(kernel, length) for kernel in KERNELS}, rounds)  # type: ignore[arg-type]
    cells = [f"{ms:,.0f} ({taken['softmax'] / ms:.2f}x)" for ms in taken.values()]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
