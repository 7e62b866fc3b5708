"""What training asks of whatever keeps its figures, and Lightning's half of the conversation."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any, Protocol

import pytorch_lightning as pl
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.loggers.logger import Logger


class Tracker(Protocol):
    """Keeps what happens in a run. `headwise.tracking` has one over MLflow and one over plain files."""

    @property
    def id(self) -> str:
        """The run's identity, with which it can be continued."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Keep values measured after `step` optimiser steps; may wait and send many at once."""

    def figure(self, name: str, figure: Any) -> None:
        """Keep a matplotlib figure, for instance an attention map that a task drew while validating."""

    def flush(self) -> None:
        """Send what waits; called when an epoch ends and when training ends, however it ends."""


class TrackerLogger(Logger):
    """Hands what a task logs in Lightning to a tracker, from the first process only.

    A task reaches the tracker as `self.logger.tracker`.
    """

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()
        self.tracker = tracker
        self._epoch: float | None = None

    @property
    def name(self) -> str:
        """Lightning wants a name for folders that we do not let it make."""
        return "headwise"

    @property
    def version(self) -> str:
        """The tracker's run."""
        return self.tracker.id

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Pass metrics on; `epoch`, which Lightning adds to every call, only when it has changed."""
        values = dict(metrics)
        epoch = values.pop("epoch", None)
        if not values:
            return
        if epoch is not None and epoch != self._epoch:
            self._epoch = values["epoch"] = epoch
        self.tracker.metrics({name: float(value) for name, value in values.items()}, step or 0)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's whole configuration is logged by whoever opened the run."""

    @rank_zero_only
    def flush(self) -> None:
        """Send what waits."""
        self.tracker.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Send what waits; the run itself is closed by whoever opened it."""
        self.tracker.flush()


class SendEveryEpoch(pl.Callback):
    """Has metrics sent before the checkpoint that vouches for them is written, so that a killed process takes none with it."""

    def __init__(self, logger: TrackerLogger) -> None:
        self.logger = logger

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Send what steps and validation measured."""
        self.logger.flush()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Send the training means of the epoch before, which Lightning logs after every `on_train_epoch_end`."""
        self.logger.flush()
