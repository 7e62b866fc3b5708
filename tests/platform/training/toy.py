"""A task small enough to train in milliseconds, with every source of chance that a real one has. Also a program:

    python toy.py FOLDER [--average D] [--die-at STEP] [--signal NAME] [--poison STEP] [--workers N]

trains it in a folder, optionally sends itself a signal after a step, and prints its result as one line of JSON.
"""

import argparse
import hashlib
import json
import os
import signal
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from headwise.training.checkpoints import load
from headwise.training.fit import Interrupted, fit
from headwise.training.optimization import OptimizerSettings, adamw
from headwise.training.settings import FitSettings

EXAMPLES, BATCH, WIDTH, HIDDEN = 41, 7, 5, 11  # 6 steps an epoch, the last one short
EPOCHS = 4


class Rows(pl.LightningDataModule):
    def __init__(self, workers: int = 0) -> None:
        super().__init__()
        self.workers = workers

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(*rows(0)), BATCH, shuffle=True, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(*rows(1)), BATCH)


class Regression(pl.LightningModule):
    def __init__(self, die_at: int = 0, kill: int = signal.SIGKILL, poison: int = 0) -> None:
        super().__init__()
        self.die_at, self.kill, self.poison = die_at, kill, poison
        self.net = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Dropout(0.3), nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, 1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.validated: list[torch.Tensor] = []

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        features, target = batch
        self.seen += len(target)
        loss = nn.functional.mse_loss(self.net(features).squeeze(1), target)
        if self.global_step + 1 == self.poison:
            loss = loss * float("nan")
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def on_train_batch_end(self, *_: object) -> None:
        if self.global_step == self.die_at:
            os.kill(os.getpid(), self.kill)

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        features, target = batch
        if batch_idx == 0:
            self.validated.append(self.net[0].weight.detach().clone())
        self.log("valid/loss", nn.functional.mse_loss(self.net(features).squeeze(1), target))

    def configure_optimizers(self) -> dict:
        steps = int(self.trainer.estimated_stepping_batches)
        return adamw(self, OptimizerSettings(rate=0.01, warmup=3), steps)


def rows(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    features = torch.randn(EXAMPLES, WIDTH, generator=chance)
    return features, features.sum(1) + 0.1 * torch.randn(EXAMPLES, generator=chance)


def fingerprint(path: Path) -> str:
    digest = hashlib.sha256()
    for name, weight in sorted(load(path)["state_dict"].items()):
        digest.update(name.encode() + weight.numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--average", type=float, default=0.0)
    parser.add_argument("--die-at", type=int, default=0)
    parser.add_argument("--signal", default="SIGKILL")
    parser.add_argument("--poison", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    asked = parser.parse_args()
    pl.seed_everything(3, verbose=False)
    task = Regression(asked.die_at, signal.Signals[asked.signal], asked.poison)
    settings = FitSettings(epochs=EPOCHS, average=asked.average, threads=1, accelerator="cpu")
    try:
        fitted = fit(
            task, Rows(asked.workers), settings=settings, folder=asked.folder, monitor="valid/loss", mode="min"
        )
    except Interrupted as stop:
        print(json.dumps({"stopped": str(stop)}))
        return
    rows_ = [{name: value for name, value in row.items() if name != "seconds"} for row in fitted.history]
    print(json.dumps({"history": rows_, "score": fitted.score, "epoch": fitted.epoch, "epochs_run": fitted.epochs_run,
                      "best": fingerprint(fitted.best), "last": fingerprint(fitted.best.with_name("last.ckpt"))}))  # fmt: skip


if __name__ == "__main__":
    main()
