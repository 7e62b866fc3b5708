"""Trains RePlay's SasRec as its documentation does: encoded sequences in Parquet, a ParquetModule, Lightning's trainer."""

import tempfile
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import polars as pl
from clock import Enough, Stopwatch, asked, callback, histories
from lightning import Callback, Trainer
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.loss import BCESampled
from replay.nn.sequential.sasrec import SasRec
from replay.nn.transform import UniformNegativeSamplingTransform
from replay.nn.transform.template import make_default_sasrec_transforms
from replay.preprocessing import LabelEncoder, LabelEncodingRule


def main() -> None:
    """Prints what the stopwatch says."""
    options = asked(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.parquet"
        start = time.process_time()
        items = encode(events(options.data), file)
        schema = TensorSchema(
            TensorFeatureInfo(
                "item_id",
                feature_type=FeatureType.CATEGORICAL,
                is_seq=True,
                feature_hint=FeatureHint.ITEM_ID,
                feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
                cardinality=items,
                padding_value=items,
                embedding_dim=options.width,
            )
        )
        transforms = make_default_sasrec_transforms(schema)
        if options.loss == "bce":
            transforms["train"].append(UniformNegativeSamplingTransform(items, 1))
        shape = {"item_id": {"shape": options.window + 1, "padding": items}}
        module = ParquetModule(options.users, {"train": shape}, transforms, train_path=str(file))
        module.setup("fit")
        next(iter(module.train_dataloader()))
        prepared = time.process_time() - start
        model = SasRec.from_params(
            schema,
            embedding_dim=options.width,
            num_heads=options.heads,
            num_blocks=options.blocks,
            max_sequence_length=options.window,
            dropout=options.dropout,
        )
        if options.loss == "bce":
            model = SasRec(model.body, BCESampled())
        stopwatch = Stopwatch(lambda batch: int(batch["target_padding_mask"].sum()), options.seconds)
        trainer = Trainer(
            max_epochs=100,
            accelerator="cpu",
            precision=options.precision,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[callback(Callback, stopwatch)],
        )
        with suppress(Enough):
            trainer.fit(LightningModule(model), datamodule=module)
    stopwatch.answer("RePlay", version("replay-rec"), prepared)


def events(file: Path) -> pl.DataFrame:
    """A row an event, but for the last two of each user, which are kept for judging."""
    names = ["user_id", "item_id"]
    if len(file.open().readline().split()) == 2:
        frame = pl.read_csv(file, separator=" ", has_header=False, new_columns=names)
    else:
        frame = pl.DataFrame(histories(file), schema=names, orient="row").explode("item_id")
    return frame.filter(pl.int_range(pl.len()).over("user_id") < pl.len().over("user_id") - 2)


def encode(frame: pl.DataFrame, file: Path) -> int:
    """Writes a row a user, of encoded items; returns how many items there are."""
    encoder = LabelEncoder([LabelEncodingRule("user_id"), LabelEncodingRule("item_id")])
    encoded = encoder.fit_transform(frame)
    encoded.group_by("user_id", maintain_order=True).agg("item_id").write_parquet(file)
    return len(encoder.mapping["item_id"])


if __name__ == "__main__":
    main()
