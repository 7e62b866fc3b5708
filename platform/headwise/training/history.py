"""What each epoch measured and how long it took, over all the processes that a run has lived in."""

import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl


class History(pl.Callback):
    """One row an epoch: its number (from 1), seconds, and every metric measured in it. It travels in the checkpoint."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._validated: set[str] = set()
        self._fresh = False
        self._before: set[str] = set()
        self._started = 0.0

    @property
    def seconds(self) -> float:
        """Time spent in epochs that were kept."""
        return sum(row["seconds"] for row in self.rows)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started, self._fresh = time.monotonic(), False

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note which metrics there were, to know which ones validation brings."""
        self._before = set(trainer.callback_metrics)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note which metrics validation brought."""
        self._validated |= set(trainer.callback_metrics) - self._before
        self._fresh = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the row. Lightning keeps the last validation's values: they belong to the epoch that measured them."""
        stale = set() if self._fresh else self._validated
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name not in stale}
        measured = {name: value for name, value in metrics.items() if not _is_double(name, metrics)}
        elapsed = time.monotonic() - self._started
        self.rows.append({"epoch": trainer.current_epoch + 1, "seconds": elapsed, **measured})

    def state_dict(self) -> dict[str, Any]:
        """What travels in the checkpoint."""
        return {"rows": self.rows, "validated": sorted(self._validated)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue a history."""
        self.rows, self._validated = list(state_dict["rows"]), set(state_dict["validated"])


def _is_double(name: str, metrics: Mapping[str, float]) -> bool:
    # A metric logged for steps and epochs appears three times: as itself, with "_step" and with "_epoch".
    return any(name.endswith(end) and name.removesuffix(end) in metrics for end in ("_step", "_epoch"))
