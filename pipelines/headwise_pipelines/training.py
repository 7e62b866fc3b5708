"""`headwise train`: from a command line to a finished run, and what is printed of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headwise.errors import InputError, NotFound

NAMES = {"recsys": "recommender", "speech": "recogniser"}
BESIDE = ("product", "preset", "data", "init_from", "freeze")  # in a run's config.json, beside the configuration


def train(
    product: str,
    preset: str,
    flags: Sequence[str],
    *,
    data: Path | None,
    name: str | None,
    work: Path,
    again: str | None,
    init_from: str | None = None,
    freeze: bool = False,
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
        again: id of an earlier run whose configuration is repeated, and its start where `init_from` names no other.
        init_from: the run whose weights this one starts from.
        freeze: do not train what is taken into the encoder's blocks.
        quiet: print nothing to standard output.
    """
    presets, run = _product(product)
    if preset not in presets:
        raise NotFound(f"there is no preset {preset!r} for {product}; there are: {', '.join(presets)}")
    from headwise_pipelines.configuration import configure, plain
    from headwise_pipelines.launch import Order, existing
    from headwise_pipelines.start import start_from
    from headwise_pipelines.summary import print_outcome

    earlier = _earlier(again, product)
    config = configure(presets[preset], flags, command=f"headwise train {product} {preset}", again=_settings(earlier))
    if init_from is None and earlier is not None and not freeze:
        init_from, freeze = earlier.get("init_from"), bool(earlier.get("freeze"))
    if freeze and init_from is None:
        raise InputError("--freeze needs --init-from RUN: fresh weights are not worth keeping")
    raw = existing(data, preset)
    start = None if init_from is None else start_from(init_from, product, freeze=freeze, work=work)
    order = Order(product, preset, plain(config), raw, name or NAMES[product], work, start)  # type: ignore[arg-type]
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
    return config


def _settings(earlier: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if earlier is None:
        return None
    return {key: value for key, value in earlier.items() if key not in BESIDE}
