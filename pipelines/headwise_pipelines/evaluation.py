"""`headwise evaluate`: a model folder, as it is served, on the test part of a data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from headwise.errors import InputError
from headwise.model_folder import read_card
from headwise.serving.registry import resolve
from headwise.tracking.registry import fetch
from headwise_pipelines.launch import existing
from headwise_pipelines.summary import table_of


def evaluate(model: str, data: Path, *, split: str | None, work: Path, quiet: bool) -> Mapping[str, Any]:
    """The figures of a model on data that it may never have seen; prints them beside the baselines unless `quiet`.

    Args:
        model: `models:/name@alias`, `models:/name/version`, `runs:/id` or a model folder.
        data: raw data, in any form that training reads.
        split: which events a recommender is asked for; where None, those that it was trained to be asked for.
        work: where prepared data are kept.
        quiet: print nothing.

    Returns:
        The model's metrics and those of the baselines.
    """
    folder = fetch(model, work / "models") if model.startswith("runs:/") else resolve(model).folder
    card = read_card(folder)
    existing(data, card.name)
    if card.kind == "recommender":
        from headwise_pipelines.recsys.evaluate import evaluate as evaluate_recommender

        product, metrics, beside = "recsys", *evaluate_recommender(folder, card, data, split, work)
    else:
        from headwise_pipelines.speech.evaluate import evaluate as evaluate_recogniser

        if split:
            raise InputError(f"--split {split} is for recommenders; {model} is a {card.kind}")
        product, metrics, beside = "speech", *evaluate_recogniser(folder, data, work)
    if not quiet:
        Console(highlight=False).print(table_of(product, f"{model} on {data}", metrics, beside))
    return {"model": model, "data": str(data), "metrics": metrics, "baselines": beside}
