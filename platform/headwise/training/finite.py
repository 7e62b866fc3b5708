"""A loss that is no longer a number ends the run at once."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from headwise.errors import HeadwiseError

PERIOD = 50  # steps between looks on a GPU, where each look waits for the device


class FiniteLoss(pl.Callback):
    """Raises when a training loss is nan or infinite, before anything learnt from it is validated or saved."""

    def __init__(self) -> None:
        self._losses: list[tuple[int, Tensor]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember the loss, and look at those remembered: each on a CPU, every `PERIOD` steps on a GPU."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if not isinstance(loss, Tensor):
            return
        self._losses.append((trainer.global_step, loss.detach()))
        if loss.device.type == "cpu" or len(self._losses) >= PERIOD:
            self._look(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look before validating: validation runs inside the epoch."""
        self._look(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look before the epoch is saved."""
        self._look(trainer)

    def _look(self, trainer: pl.Trainer) -> None:
        if not self._losses:
            return
        losses, self._losses = self._losses, []
        values = torch.stack([loss for _, loss in losses]).tolist()
        for (step, _), value in zip(losses, values, strict=True):
            if not math.isfinite(value):
                rate = trainer.optimizers[0].param_groups[0]["lr"]
                raise HeadwiseError(
                    f"the training loss is {value} at step {step}, epoch {trainer.current_epoch + 1} (learning rate {rate:.3g}): "
                    "training stopped. Lower optimizer.rate, lengthen optimizer.warmup or set fit.clip; "
                    "if it stays, look for an example that has no target"
                )
