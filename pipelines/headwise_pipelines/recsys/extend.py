"""`headwise extend`: a trained recommender that knows more items, by their features, without training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headwise.errors import InputError, NotFound
from headwise.model_folder import read_card
from headwise.training.progress import say
from headwise_pipelines.configuration import configure
from headwise_pipelines.launch import existing
from headwise_pipelines.recsys.export import export, settings
from headwise_pipelines.recsys.matching import ITEM_TABLES
from headwise_pipelines.recsys.presets import PRESETS, RecsysConfig
from headwise_pipelines.recsys.report import SPLITS
from headwise_pipelines.recsys.train import build, chosen_of, features_of
from headwise_pipelines.start import start_from
from headwise_recsys.interactions import Interactions
from headwise_recsys.item_encoding import more, titles
from headwise_recsys.item_features import Feature, Tags
from headwise_recsys.item_tables import read_items
from headwise_recsys.model import SASRec
from headwise_recsys.prepare import prepare


def extend(reference: str, items: Path, out: Path, *, data: Path, work: Path) -> Mapping[str, Any]:
    """A model folder of an earlier run's recommender with the items of a table that it did not know.

    What the model says of the items that it knew stays as it was; the new ones stand where their features put them.

    Args:
        reference: the run, as `--init-from` names it.
        items: a table of items, with the features that the model was trained with; those that it knows are passed over.
        out: the folder to write; must not exist.
        data: what the run was trained on.
        work: where runs, fetched models and prepared data are kept.

    Returns:
        The folder, and how many items it knows and how many of them are new.

    Raises:
        NotFound: there is no such run, table or data.
        InputError: the model knows no features, the table lacks some or holds nothing new, or the data are others.
    """
    if not items.is_file():
        raise NotFound(f"{items}: there is no such file; give a table of items")
    if out.exists():
        raise InputError(f"{out}: exists already; choose a folder that does not, or remove it")
    start = start_from(reference, "recsys", freeze=False, work=work)
    card = read_card(start.tables)
    made = card.provenance
    config: RecsysConfig = configure(PRESETS[made["preset"]], [], command="headwise extend", again=made["config"])
    if not config.model.features:
        raise InputError(
            f"{reference}: this model knows items by their ids alone, so new ones need training; "
            "train it with --model.features all"
        )
    source = existing(data, made["preset"])
    known = prepare(source, work / "data", min_count=config.min_count, columns=config.columns, users=config.users)
    if known.fingerprint != made["data"]["fingerprint"]:
        raise InputError(f"{data}: not the data that {reference} was trained on, {made['data']['source']}; give those")
    known = replace(known, user_features=chosen_of(config.model.user_features, known.user_features, known, "user"))
    grown = _grown(replace(known, features=features_of(config.model, known)), items)
    split = SPLITS[config.split](known, targets=config.target_types)
    model = _widened(build(config, grown, split), start.weights)
    added = grown.item_count - known.item_count
    name = f"{card.name}, {added:,} more items"
    proof = replace(card, name=name, settings=settings(model), parity={}, files={})
    export(model, grown, split.valid, out, proof, config.export)
    say(f"{out}: knows {grown.item_count:,} items, {added:,} of them new")
    return {"folder": str(out), "items": grown.item_count, "added": added}


def _grown(known: Interactions, items: Path) -> Interactions:
    table, old = read_items(items), set(map(str, known.item_ids))
    text = all(isinstance(own, str) for own in known.item_ids)
    new = [str(own) if text else own for own in table["item"].to_list() if str(own) not in old]
    if not new:
        raise InputError(f"{items}: the model knows all of its {len(table)} items; there is nothing to add")
    names = titles(table, new) or [None] * len(new)
    before = known.titles or [None] * known.item_count
    named = [*before, *names] if any(names) or known.titles else None
    added = zip(known.features, more(known.features, table, new), strict=True)
    features = tuple(_joined(feature, fresh) for feature, fresh in added)
    return replace(known, item_ids=[*known.item_ids, *new], titles=named, features=features)


def _joined(old: Feature, new: Feature) -> Feature:
    if isinstance(old, Tags):
        most = max(old.values.shape[1], new.values.shape[1])
        padded = [np.pad(tags, ((0, 0), (0, most - tags.shape[1]))) for tags in (old.values, new.values[1:])]
        return replace(old, values=np.concatenate(padded).astype(np.int32))
    return replace(old, values=np.concatenate([old.values, new.values[1:]]).astype(np.float32))


def _widened(model: SASRec, weights: Mapping[str, torch.Tensor]) -> SASRec:
    state = model.state_dict()
    for name, tensor in weights.items():  # a new item has nothing of its own, and no transitions
        rows = state[name].shape[0] - tensor.shape[0] if name in ITEM_TABLES else 0
        state[name] = torch.cat([tensor, tensor.new_zeros(rows, *tensor.shape[1:])]) if rows else tensor
    model.load_state_dict(state)
    return model.eval()
