"""Training from start to finish, through crashes: Lightning does the loop, this says what is kept and what is chosen."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ProgressBar, WeightAveraging
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch.optim.swa_utils import get_ema_multi_avg_fn

from headwise.errors import InputError
from headwise.training.chatter import quiet
from headwise.training.checkpoints import WholeFiles, sweep
from headwise.training.finite import FiniteLoss
from headwise.training.history import History
from headwise.training.progress import progress, say
from headwise.training.randomness import SeedEveryEpoch
from headwise.training.runs import first_process
from headwise.training.selection import Selection
from headwise.training.settings import FitSettings
from headwise.training.tracker import SendEveryEpoch, Tracker, TrackerLogger
from headwise.training.watching import Watch, Watching

LOG_PERIOD = 10  # steps between logged training metrics; the tracker sends them in batches


@dataclass(frozen=True)
class Fitted:
    """What training came to."""

    best: Path  # the checkpoint with the best validation score; its `state_dict` holds the averaged weights
    score: float  # that score
    epoch: int  # the epoch it was measured in, from 1
    epochs_run: int  # epochs trained in all, in whatever number of processes
    seconds: float  # spent in them
    history: Sequence[Mapping[str, float]]  # one row an epoch: epoch, seconds and its metrics


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, by Ctrl-C or SIGTERM; its text says how to continue."""


def fit(
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    *,
    settings: FitSettings,
    folder: Path,
    monitor: str,
    mode: Literal["min", "max"],
    tracker: Tracker | None = None,
    watch: Watch | None = None,
) -> Fitted:
    """Train a task, or continue where an earlier process was stopped in the same folder.

    `folder/checkpoints/last.ckpt` is replaced, whole, at the end of every epoch; `best.ckpt` whenever validation improves.
    A process that is killed at any moment loses at most the epoch it was in, and the run that continues ends, on a CPU, with
    the very bits of one that was never stopped. For that a task draws no random numbers in `on_train_epoch_start`, and its
    data module's sampler is either torch's own or orders by `set_epoch` and a seed.

    Of several processes the first alone returns; the others have done their part and end here.

    Args:
        task: logs `monitor` in its validation.
        data: training and validation loaders. Where its `spreads_itself` is true it gives each process its own part; else each
            takes whole batches in turn, as Lightning has it.
        settings: how long, how carefully, on what.
        folder: the run's folder, for this process alone.
        monitor: the validation metric by which the checkpoint is chosen.
        mode: whether a better `monitor` is lower or higher.
        tracker: where metrics go, if anywhere.
        watch: is told of every validation and may end training early.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the state of the last whole epoch is kept.
        HeadwiseError: the loss is no longer a number, or a checkpoint could not be written.
        InputError: `last.ckpt` cannot be read, or the device is not there.
    """
    checkpoints = folder / "checkpoints"
    sweep(checkpoints)
    history = History()
    selection = Selection(checkpoints, monitor=monitor, mode=mode, patience=settings.patience)
    with quiet(), _threads(settings.threads):
        pl.seed_everything(settings.seed, workers=True, verbose=False)
        watching = [] if watch is None else [Watching(watch, monitor)]
        spread = not getattr(data, "spreads_itself", False)
        trainer = _trainer(settings, folder, history, [*watching, selection], tracker, spread)
        say(_summary(task, selection.last))
        try:
            trainer.fit(task, datamodule=data, ckpt_path=_existing(selection.last), weights_only=True)
        except (SIGTERMException, SystemExit) as stop:
            signal = "SIGTERM" if isinstance(stop, SIGTERMException) else "Ctrl-C"
            raise Interrupted(_how_to_continue(signal, history, folder)) from None
    if not first_process():
        raise SystemExit(0)
    return Fitted(
        selection.best, selection.score, selection.epoch, len(history.rows), history.seconds, tuple(history.rows)
    )


def _trainer(
    settings: FitSettings,
    folder: Path,
    history: History,
    judges: Sequence[pl.Callback],
    tracker: Tracker | None,
    spread: bool,
) -> pl.Trainer:
    _check_device(settings)
    callbacks = [SeedEveryEpoch(settings.seed), FiniteLoss(), history, *progress(history), *judges]
    if settings.average:
        # Buffers follow the weights unaveraged: a mean of counters or of masks is none.
        average = WeightAveraging(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(settings.average))
        callbacks.insert(0, average)
    logger = TrackerLogger(tracker) if tracker else None
    if logger:
        callbacks.append(
            SendEveryEpoch(logger)
        )  # Lightning moves the selection, which writes the checkpoint, behind it
    return pl.Trainer(
        max_epochs=settings.epochs,
        check_val_every_n_epoch=settings.validate_every,
        num_sanity_val_steps=0,  # validation is never run for its own sake: its metrics would enter the history
        gradient_clip_val=settings.clip or None,
        precision=settings.precision,
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.hosts,
        use_distributed_sampler=spread,
        callbacks=callbacks,
        plugins=[WholeFiles()],
        logger=logger or False,
        log_every_n_steps=LOG_PERIOD,
        default_root_dir=folder,
        enable_model_summary=False,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
    )


def _check_device(settings: FitSettings) -> None:
    there = {"gpu": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    count = there.get(settings.accelerator)
    if count is not None and count < settings.devices:
        raise InputError(
            f"fit.accelerator {settings.accelerator} with fit.devices {settings.devices}: this machine has {count}; "
            "--fit.accelerator auto takes what there is"
        )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _summary(task: pl.LightningModule, last: Path) -> str:
    count = sum(p.numel() for p in task.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in task.parameters()) - count
    still = f", {frozen:,} frozen" if frozen else ""
    return f"{count:,} parameters to train{still}" + (f", continued from {last}" if last.is_file() else "")


def _how_to_continue(signal: str, history: History, folder: Path) -> str:
    count = len(history.rows)
    kept = (
        f"{count} whole epoch{'s are' if count > 1 else ' is'} kept in {folder}" if count else "no epoch was finished"
    )
    return f"training was stopped by {signal}: {kept}; the same command continues"
