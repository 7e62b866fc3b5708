"""Trains headwise's SASRec as `headwise train recsys sasrec-plus` does, with the size and loss that its peers have here."""

import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars  # noqa: F401  # imports are not timed, here as in the others
import pytorch_lightning as pl
import torch
from clock import Enough, Stopwatch, asked, callback

from headwise.training.fit import fit
from headwise_pipelines.recsys.losses import chosen
from headwise_pipelines.recsys.presets import LossSettings, sasrec_plus
from headwise_pipelines.recsys.train import MODE, MONITOR, build
from headwise_recsys.batches import InteractionBatches
from headwise_recsys.prepare import prepare
from headwise_recsys.splits import leave_one_out
from headwise_recsys.task import RecommenderTask

LOSSES = {"softmax": LossSettings(unseen=False), "bce": LossSettings("bce", negatives=1, shared=False)}


class Timed(RecommenderTask):
    """The ordinary task with a stopwatch."""

    stopwatch: Stopwatch

    def configure_callbacks(self) -> Any:
        """Lightning asks for them."""
        return [callback(pl.Callback, self.stopwatch)]


def main() -> None:
    """Prints what the stopwatch says."""
    options = asked(__doc__)
    like = sasrec_plus()
    size = {name: getattr(options, name) for name in ("window", "width", "blocks", "heads", "dropout")}
    config = replace(
        like,
        tokens=options.positions,
        model=replace(like.model, **size, hidden=options.width),
        loss=LOSSES[options.loss],
        fit=replace(like.fit, precision=options.precision, threads=options.threads, accelerator="cpu"),
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        data = prepare(options.data, Path(folder))
        split = leave_one_out(data)
        batches = InteractionBatches(
            data, split, window=options.window, tokens=config.tokens, seed=1, seen=config.unseen
        )
        next(iter(batches.train_dataloader()))
        prepared = time.process_time() - start
        task = Timed(build(config, data, split), data, config.optimizer, chosen(config.loss, data, split.train_stops))
        task.stopwatch = Stopwatch(lambda batch: int((batch.targets > 0).sum()), options.seconds)
        torch.manual_seed(1)
        with suppress(Enough):
            fit(task, batches, settings=config.fit, folder=Path(folder), monitor=MONITOR, mode=MODE)
    task.stopwatch.answer("headwise", version("headwise"), prepared)


if __name__ == "__main__":
    main()
