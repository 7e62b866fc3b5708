"""Progress on standard error: a bar on a terminal, one line an epoch in a log."""

import sys

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar

from headwise.training.history import History


def progress_for(history: History) -> ProgressBar:
    """The bar or the lines, whichever standard error can show."""
    if sys.stderr.isatty():
        return RichProgressBar(leave=True, console_kwargs={"stderr": True})
    return EpochLines(history)


class EpochLines(ProgressBar):
    """One line an epoch: its metrics, its time, and the time left if every epoch is to be run.

    epoch  3/20  train/loss 1.8127  valid/loss 1.9021  12.4 s  3 min 31 s left
    """

    def __init__(self, history: History) -> None:
        super().__init__()
        self.history = history

    def disable(self) -> None:
        """Lightning calls this in every process but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    _enabled = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line of the epoch that ended."""
        if not self._enabled:
            return
        row, epochs = self.history.rows[-1], trainer.max_epochs or 0
        metrics = "  ".join(f"{name} {row[name]:.4f}" for name in row if name not in ("epoch", "seconds"))
        left = (epochs - int(row["epoch"])) * self.history.seconds / len(self.history.rows)
        number = f"{int(row['epoch']):>{len(str(epochs))}}/{epochs}"
        say(f"epoch {number}  {metrics}  {duration(row['seconds'])}" + (f"  {duration(left)} left" if left else ""))


def say(line: str) -> None:
    """A line on standard error, at once."""
    print(line, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A length of time as a person would say it: 0.4 s, 12.4 s, 3 min 31 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
