"""Which checkpoints are kept: the last epoch's, to continue from, and the one that validation liked best."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from headwise.errors import HeadwiseError


class Selection(Checkpoint):
    """Writes `last.ckpt` when an epoch ends and `best.ckpt` when validation improves; stops when patience runs out.

    Lightning's own pair, ModelCheckpoint and EarlyStopping, forgets the best score when the run's folder has moved, trains one
    more epoch when a run that had stopped early is continued, and counts an epoch without validation as one without progress.
    """

    def __init__(self, folder: Path, *, monitor: str, mode: Literal["min", "max"], patience: int) -> None:
        self.last, self.best = folder / "last.ckpt", folder / "best.ckpt"
        self.monitor, self.mode, self.patience = monitor, mode, patience
        self.score, self.epoch, self.waited = math.nan, 0, 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that had stopped early stays stopped."""
        trainer.should_stop = self._exhausted

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare, and keep what is better. The weights are those that were validated."""
        score = float(trainer.strategy.broadcast(self._measured(trainer)))
        if not self._better(score):
            self.waited += 1
            return
        self.score, self.epoch, self.waited = score, trainer.current_epoch + 1, 0
        trainer.save_checkpoint(self.best)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the epoch. Lightning calls a `Checkpoint` last, so that every other callback's state is in it."""
        trainer.save_checkpoint(self.last)
        trainer.should_stop = trainer.should_stop or self._exhausted

    def state_dict(self) -> dict[str, Any]:
        """What travels in the checkpoint."""
        return {"score": self.score, "epoch": self.epoch, "waited": self.waited}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the comparison."""
        self.score, self.epoch, self.waited = state_dict["score"], state_dict["epoch"], state_dict["waited"]

    @property
    def _exhausted(self) -> bool:
        return 0 < self.patience <= self.waited

    def _better(self, score: float) -> bool:
        if self.epoch == 0:
            return True
        return score < self.score if self.mode == "min" else score > self.score

    def _measured(self, trainer: pl.Trainer) -> float:
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            raise HeadwiseError(
                f"the task logs no {self.monitor!r} in validation; it logs: {', '.join(sorted(metrics))}"
            )
        score = float(metrics[self.monitor])
        if math.isnan(score):
            raise HeadwiseError(
                f"{self.monitor} is nan after epoch {trainer.current_epoch + 1}: there is nothing to choose by"
            )
        return score
