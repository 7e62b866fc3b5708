"""`headwise train`: from a command line to a finished run, and what is printed of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headwise.errors import InputError, NotFound

NAMES = {"recsys": "recommender", "speech": "recogniser"}


def train(
    product: str,
    preset: str,
    flags: Sequence[str],
    *,
    data: Path | None,
    name: str | None,
    work: Path,
    again: str | None,
    quiet: bool = False,
) -> Mapping[str, Any]:
    """One run, from raw data to a registered model; prints its summary unless `quiet`.

    Args:
        product: "recsys" or "speech".
        preset: the run to start from.
        flags: what to change in it.
        data: the raw data.
        name: under which the model is registered; the product's own name where None.
        work: where prepared data and runs are kept.
        again: id of an earlier run whose configuration is repeated.
        quiet: print nothing to standard output.
    """
    presets, run = _product(product)
    if preset not in presets:
        raise NotFound(f"there is no preset {preset!r} for {product}; there are: {', '.join(presets)}")
    from headwise_pipelines.configuration import configure, plain
    from headwise_pipelines.launch import Order, existing
    from headwise_pipelines.summary import print_outcome

    config = configure(
        presets[preset], flags, command=f"headwise train {product} {preset}", again=_earlier(again, product)
    )
    order = Order(product, preset, plain(config), existing(data, preset), name or NAMES[product], work)  # type: ignore[arg-type]
    outcome = run(order, config)
    if not quiet:
        print_outcome(outcome)
    return dict(outcome.plain())


def presets_of(product: str) -> Mapping[str, Any]:
    """The presets of a product, by name."""
    if product == "recsys":
        from headwise_pipelines.recsys.presets import PRESETS

        return PRESETS
    from headwise_pipelines.speech import presets

    return presets.PRESETS


def _product(product: str) -> tuple[Mapping[str, Any], Any]:
    if product == "recsys":
        from headwise_pipelines.recsys.train import train as train_recsys

        return presets_of(product), train_recsys
    from headwise_pipelines.speech.train import train as train_speech

    return presets_of(product), train_speech


def _earlier(run: str | None, product: str) -> Mapping[str, Any] | None:
    if run is None:
        return None
    from headwise.tracking.earlier import config_of

    config = config_of(run)
    if config.get("product") != product:
        raise InputError(f"run {run}: it is of {config.get('product')}, not of {product}")
    return {key: value for key, value in config.items() if key not in ("product", "preset", "data")}
