"""Trains RecTools' SASRec as its documentation does: a Dataset, the model's own preparator, its Lightning trainer."""

import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from clock import Enough, Stopwatch, asked, callback, histories
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


def main() -> None:
    """Prints what the stopwatch says."""
    options = asked(__doc__)
    stopwatch = Stopwatch(lambda batch: int((batch["y"] != 0).sum()), options.seconds)

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=100,
            accelerator="cpu",
            precision=options.precision,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[callback(Callback, stopwatch)],
        )

    model = SASRecModel(
        n_blocks=options.blocks,
        n_heads=options.heads,
        n_factors=options.width,
        dropout_rate=options.dropout,
        session_max_len=options.window,
        loss={"softmax": "softmax", "bce": "BCE"}[options.loss],
        n_negatives=1,
        batch_size=options.users,
        get_trainer_func=trainer,
    )
    start = time.process_time()
    frame = events(options.data)
    frame[Columns.Weight] = 1.0
    frame[Columns.Datetime] = pd.to_datetime(np.arange(len(frame)), unit="s")  # their order is all that is known
    dataset = Dataset.construct(frame)
    model.data_preparator.process_dataset_train(dataset)
    next(iter(model.data_preparator.get_dataloader_train()))
    prepared = time.process_time() - start
    with suppress(Enough):
        model.fit(dataset)
    stopwatch.answer("RecTools", version("rectools"), prepared)


def events(file: Path) -> pd.DataFrame:
    """A row an event, but for the last two of each user, which are kept for judging."""
    if len(file.open().readline().split()) == 2:
        frame = pd.read_csv(file, sep=" ", header=None, names=[Columns.User, Columns.Item])
    else:
        frame = (
            pd.DataFrame(histories(file), columns=[Columns.User, Columns.Item]).explode(Columns.Item).astype("int64")
        )
    return frame[frame.groupby(Columns.User).cumcount(ascending=False) >= 2].reset_index(drop=True)


if __name__ == "__main__":
    main()
