"""Progress on standard error: one line an epoch, and below the lines a bar where there is a terminal."""

import sys

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar

from headwise.training.history import History


def progress(history: History) -> list[pl.Callback]:
    """The lines, and the bar where standard error can show one; rich prints what is written meanwhile above it."""
    lines: list[pl.Callback] = [EpochLines(history)]
    return [*lines, RichProgressBar(console_kwargs={"stderr": True})] if sys.stderr.isatty() else lines


class EpochLines(pl.Callback):
    """One line an epoch: its metrics, its time, and the time left if every epoch is to be run.

    epoch  3/20  train/loss 1.8127  valid/loss 1.9021  12.4 s  3 min 31 s left
    """

    def __init__(self, history: History) -> None:
        self.history = history

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line of the epoch that ended, in the first process."""
        if not trainer.is_global_zero:
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
