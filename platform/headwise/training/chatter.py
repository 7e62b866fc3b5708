"""What Lightning says unasked, kept quiet by name: anything that it has not said before still comes through."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Where its tips, advertisements and notes on every start come from, all of them of level INFO.
SPEAKERS = ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.rank_zero", "pytorch_lightning")

# Warnings that are wrong for us: our data is already in memory, epochs may be short, a resumed run has checkpoints, frozen blocks
# drop nothing out.
KNOWN = (
    r".*does not have many workers.*",
    r".*The number of training batches .* is smaller than the logging interval.*",
    r".*module\(s\) in eval mode at the start of training.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the known chatter for the length of a block."""
    levels = {name: logging.getLogger(name).level for name in SPEAKERS}
    with warnings.catch_warnings():
        for message in KNOWN:
            warnings.filterwarnings("ignore", message)
        try:
            for name in SPEAKERS:
                logging.getLogger(name).setLevel(logging.WARNING)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
