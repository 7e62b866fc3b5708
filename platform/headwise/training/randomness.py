"""Everything random in an epoch follows from the seed and the epoch alone.

So an epoch that starts in a new process, after a crash, draws what it would have drawn in the old one, and no state of any
generator has to travel in a checkpoint.
"""

import hashlib
import random

import numpy as np
import pytorch_lightning as pl
import torch


class SeedEveryEpoch(pl.Callback):
    """Seeds Python, NumPy and torch, on the CPU and every GPU, when a training epoch starts; each process differently."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed, and where Lightning opened the training data too early, open it again.

        In the first epoch after a resume Lightning opens the loader before it tells the sampler which epoch it is: with
        workers the first batches would then be those of another epoch.
        """
        seed_all(derived(self.seed, trainer.current_epoch, trainer.global_rank))
        if trainer.fit_loop.is_resuming:
            fetcher = trainer.fit_loop._data_fetcher
            assert fetcher is not None  # Lightning made it just now
            iter(fetcher)


def derived(seed: int, epoch: int, rank: int) -> int:
    """A seed below 2^32 for one epoch in one process, unrelated to those of its neighbours."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}/{rank}".encode()).digest()[:4], "big")


def seed_all(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch, the last on every device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
