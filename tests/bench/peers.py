"""Trains SASRec by headwise, RecTools and RePlay in turns, each by its own documented call: real positions a second.

    python tests/bench/peers.py --rectools PYTHON --replay PYTHON [--data ../shared/data] [--threads 1] [--rounds 3]

PYTHON is the interpreter of an environment that has the peer alone:

    python -m venv rectools && rectools/bin/pip install "rectools[torch]"
    python -m venv replay && replay/bin/pip install "replay-rec[torch]"

All have the same events (the last two of each user left out), width 64, 2 blocks, 2 heads, a feed-forward as wide, dropout 0.2, a
window of 200 on MovieLens 1M and of 50 on Beauty, batches of 128 users at the peers and about as many positions at headwise, Adam
at a constant rate, and the same loss: softmax over all items, or binary cross-entropy with one negative. A position counts where
it has a target that the loss sees. Peers take the last `window` events of a user; headwise takes all, in windows.

What cannot be equal: peers have dropout on attention weights too, and ReLU where headwise has GELU; RePlay draws one negative for
a whole batch, RecTools and headwise one for each position.

Steps are timed from end to end, with the loader's and the trainer's work between them. On a machine that does other work,
positions a second of processor time tell what a thread would do undisturbed; both are shown, and the ratio is of the latter.
Preparing is from the raw file to the first batch, in processor time, without imports. Medians of the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

DRIVERS = Path(__file__).parent / "peers"
DATA = {
    "MovieLens 1M": ("ml-1m/ml-1m.txt", ["--window", "200", "--positions", "12000"]),
    "Beauty": ("beauty/Beauty.txt", ["--window", "50", "--positions", "1000"]),
}
HEADER = (
    f"{'data':<13} {'loss':<8} {'tool':<16} {'a batch':>8} {'positions/s':>12} {'a CPU second':>13} "
    f"{'headwise is':>12} {'prepared':>9}"
)


def measure(python: str, tool: str, data: Path, flags: list[str], threads: int) -> dict[str, Any]:
    """One run of a driver, in a process of its own."""
    command = [python, str(DRIVERS / f"{tool}_driver.py"), str(data), *flags, "--threads", str(threads)]
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | limits)
    if done.returncode:
        raise SystemExit(f"{tool} failed:\n{done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rectools", required=True)
    parser.add_argument("--replay", required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--losses", nargs="+", choices=["softmax", "bce"], default=["softmax", "bce"])
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", default="20", help="of training to time, each time")
    options = parser.parse_args()
    pythons = {"headwise": sys.executable, "rectools": options.rectools, "replay": options.replay}
    print(
        f"{options.threads} thread(s), {options.precision}, median of {options.rounds} rounds\n\n{HEADER}", flush=True
    )
    for name in options.sets:
        file, size = DATA[name]
        for loss in options.losses:
            flags = [*size, "--loss", loss, "--precision", options.precision, "--seconds", options.seconds]
            rounds: dict[str, list[dict[str, Any]]] = {tool: [] for tool in pythons}
            for _ in range(options.rounds):
                for tool, python in pythons.items():
                    rounds[tool].append(measure(python, tool, options.data / file, flags, options.threads))
            show(name, loss, rounds)


def show(name: str, loss: str, rounds: dict[str, list[dict[str, Any]]]) -> None:
    """Prints a line a tool."""
    ours = statistics.median(told["alone"] for told in rounds["headwise"])
    for answers in rounds.values():
        middle = {
            key: statistics.median(told[key] for told in answers) for key in ("positions", "speed", "alone", "prepared")
        }
        print(
            f"{name:<13} {loss:<8} {answers[0]['tool']:<16} {middle['positions']:8,.0f} {middle['speed']:12,.0f} "
            f"{middle['alone']:13,.0f} {ours / middle['alone']:11.1f}x {middle['prepared']:7.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
