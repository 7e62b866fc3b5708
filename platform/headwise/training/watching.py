"""Somebody who is told of every validation, and may end training early: a sweep that prunes its trials."""

from collections.abc import Callable
from typing import TypeAlias

import pytorch_lightning as pl

Watch: TypeAlias = Callable[[int, float], bool]
"""Takes an epoch, from 1, and its validation score; says whether to go on."""


class Watching(pl.Callback):
    """Tells a watch of every validation and stops, after a whole epoch, when it says so."""

    def __init__(self, watch: Watch, monitor: str) -> None:
        self._watch, self._monitor = watch, monitor

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell, and listen."""
        if not self._watch(trainer.current_epoch + 1, float(trainer.callback_metrics[self._monitor])):
            trainer.should_stop = True
