"""Trains a SASRec over a catalogue of a million items: peak memory and real positions a second, loss by loss.

    python -m tests.bench.recsys_scale [--items 1000000] [--threads 2] [--steps 7] [--dropout 0] [--losses softmax sampled ...]

Histories are as long as MovieLens 1M's (log-normal, median 96, 200 at most), items as popular as Zipf's law has it. A batch is
128 rows of 200 places, packed. A step is everything that training does: the batch made from events, forward, backward, clipping,
the optimiser, the moving average. Each loss runs in a process of its own, whose peak resident memory is shown, everything
included; the median step counts, after one that only warms up. The exact softmax takes minutes a step: it makes one.

Positions a second of processor time tell what one thread would do undisturbed: on a busy machine run it with one, since several
wait for each other.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from headwise.training.optimization import OptimizerSettings, adamw
from headwise.training.sparse import clip, make_sparse
from headwise_pipelines.recsys.losses import chosen
from headwise_pipelines.recsys.presets import LossSettings
from headwise_recsys.batches import InteractionBatches, Packed
from headwise_recsys.interactions import Interactions
from headwise_recsys.model import sasrec
from headwise_recsys.splits import leave_one_out

WINDOW, ROWS = 200, 128
LOSSES = {
    "softmax": (LossSettings(), False),
    "sampled": (LossSettings("sampled"), True),
    "gbce": (LossSettings("gbce"), True),
    "bce": (LossSettings("bce", negatives=1, shared=False), True),
    "sampled, dense": (LossSettings("sampled"), False),
}


def events(items: int, users: int) -> Interactions:
    """Histories of popular and unpopular items, in no order that could be learned."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(96), 0.9, users), 5, WINDOW + 3).astype(np.int64)
    popular = rng.permutation(items) + 1
    chance = 1 / np.arange(1, items + 1) ** 0.8
    drawn = popular[np.searchsorted(np.cumsum(chance / chance.sum()), rng.random(lengths.sum())).clip(max=items - 1)]
    return Interactions(
        items=drawn.astype(np.int32),
        times=None,
        offsets=np.cumsum([0, *lengths]),
        user_ids=range(users),  # type: ignore[arg-type]
        item_ids=range(1, items + 1),  # type: ignore[arg-type]
        titles=None,
        name="generated",
        fingerprint="",
        source="",
    )


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Peak memory and speed of one loss, in this process."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    settings, sparse = LOSSES[name]
    data = events(options.items, users=4 * ROWS)
    model = sasrec(options.items, window=WINDOW, width=options.width, dropout=options.dropout)
    if sparse:
        make_sparse(model, rows=options.items)
    split = leave_one_out(data)
    batches = InteractionBatches(data, split, window=WINDOW, tokens=ROWS * WINDOW, seed=0).train_dataloader()
    loss = chosen(settings, data, split.train_stops)
    parts = adamw(model, OptimizerSettings(), steps=1000)
    average = AveragedModel(model, use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(0.995))

    def step(batch: Packed) -> int:
        real = batch.at.segment > 0
        parts["optimizer"].zero_grad()
        loss(model(batch.items, batch.at)[real], batch.targets[real], model.vectors).backward()
        clip(model.parameters(), 1.0)
        parts["optimizer"].step()
        parts["lr_scheduler"]["scheduler"].step()
        average.update_parameters(model)
        return int(real.sum())

    speeds, frugal, steps = [], [], 1 if name == "softmax" else 1 + options.steps
    endless = (batch for _ in range(steps) for batch in batches)
    for _ in range(steps):
        start, worked = time.perf_counter(), time.process_time()
        positions = step(next(endless))
        speeds.append(positions / (time.perf_counter() - start))
        frugal.append(positions / (time.process_time() - worked))
    speed, alone = (statistics.median(each[1:] or each) for each in (speeds, frugal))
    return {"positions": positions, "speed": speed, "alone": alone, "peak": peak_bytes() / 2**30}


def peak_bytes() -> int:
    """The most resident memory that this process has had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--one", choices=LOSSES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options)))
        return
    print(
        f"torch {torch.__version__}, {options.threads} thread(s), {options.items:,} items, width {options.width}, "
        f"dropout {options.dropout:g}\n"
    )
    print(f"{'loss':<16} {'real positions a batch':>22} {'positions/s':>12} {'a CPU second':>13} {'peak memory':>12}")
    for name in options.losses:
        found = _in_its_own_process(name)
        speeds = f"{found['speed']:12,.0f} {found['alone']:13,.0f}"
        print(f"{name:<16} {found['positions']:22,} {speeds} {found['peak']:8.2f} GiB", flush=True)


def _in_its_own_process(name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.recsys_scale", *sys.argv[1:], "--one", name]
    last = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    found: dict[str, Any] = json.loads(last)
    return found


if __name__ == "__main__":
    main()
