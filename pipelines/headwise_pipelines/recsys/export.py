"""From a trained recommender to its model folder, with the proof that its graphs recommend and explain the same."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from headwise.examples import Examples
from headwise.export import TOLERANCE, Arrays, Graph, Runner, prove, write
from headwise.model_folder import ModelCard, writing
from headwise_pipelines.recsys.appending import EventByEvent
from headwise_pipelines.recsys.presets import ExportSettings
from headwise_pipelines.recsys.scan import prove_scan
from headwise_recsys.batches import ask
from headwise_recsys.beside import TYPES, USERS
from headwise_recsys.graph import MAX_K, explanation_graph, recommender_graph
from headwise_recsys.incremental import append_graph
from headwise_recsys.interactions import Interactions
from headwise_recsys.item_features import Tags
from headwise_recsys.likeness import CATEGORIES, VECTORS
from headwise_recsys.metrics import at_once
from headwise_recsys.model import SASRec
from headwise_recsys.splits import Queries

GRAPH, EXPLANATION, APPEND = "recommender.onnx", "explanation.onnx", "append.onnx"
PROVED = 512  # histories that the graph must agree on
TOP = 10


def export(
    model: SASRec,
    data: Interactions,
    queries: Queries,
    target: Path,
    card: ModelCard,
    how: ExportSettings = ExportSettings(),  # noqa: B008 - frozen
) -> ModelCard:
    """Writes the model folder, or nothing.

    Args:
        model: the trained model.
        data: whose ids and titles travel along.
        queries: real histories that the graphs are proved on.
        target: the model folder.
        card: what it says; parity is added here.
        how: whether the graph may search approximately, and how well it must find.

    Returns:
        The card as written.

    Raises:
        ParityError: a graph would recommend or explain something else than the model, or an approximate one finds too little.
    """
    model = model.folded()
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".export-") as scratch:
        metadata = {"headwise.kind": card.kind, "headwise.run": str(card.provenance.get("run", ""))}

        def written(graph: Graph, name: str) -> Runner:
            write(graph, Path(scratch) / name, metadata)
            return Runner(graph.module, Path(scratch) / name, graph.outputs)

        asked = list(_real_inputs(data, queries, model))
        runner = written(recommender_graph(model, quantised=how.quantised), GRAPH)
        parity = (
            prove_scan(runner, model, data, queries, least=how.recall)
            if how.quantised
            else prove(runner, asked, scores="scores", same=_changed_lists, what=f"top-{TOP} lists")
        )
        explained = prove(
            written(explanation_graph(model), EXPLANATION),
            [{name: batch[name] for name in ("history", "lengths", *model.beside)} for batch in asked],
            scores="attention",
            same=_changed_favourites,
            what="items looked at most",
        )
        proved = replace(card, parity={**parity, "explanation": explained})
        if how.incremental:
            twins = EventByEvent(written(append_graph(model), APPEND), model)
            appended = prove(twins, asked, scores="scores", same=_changed_lists, what=f"top-{TOP} lists")
            proved = replace(proved, parity={**proved.parity, "append": appended})
        with writing(target, proved) as draft:
            for part in Path(scratch).iterdir():  # the graphs, and the weights of large ones
                shutil.move(part, draft / part.name)
            some = asked[:2][-1]  # with lists to exclude and allow, where there are queries enough
            Examples(some, runner.by_graph(some)).save(draft)
            _write_json(draft / "items.json", data.item_ids)
            if "user" in model.beside:
                _write_json(draft / USERS, [feature.facts() for feature in data.user_features])
            if "types" in model.beside:
                _write_json(draft / TYPES, data.type_names)
            if data.titles is not None:
                _write_json(draft / "titles.json", data.titles)
            np.save(draft / VECTORS, model.head.vectors(model.embedding.weight, None).detach().half().numpy())
            if categories := _categories(data):
                _write_json(draft / CATEGORIES, categories)
    return proved


def _categories(data: Interactions) -> dict[str, list[str | None]]:
    tags = [feature for feature in data.features if isinstance(feature, Tags)]
    return {
        feature.name: [(None, *feature.vocabulary)[first] for first in feature.values[1:, 0].tolist()]
        for feature in tags
    }


def settings(model: SASRec) -> dict[str, Any]:
    """What the service must know of the graph."""
    return {
        "window": model.window,
        "max_k": min(MAX_K, model.items),
        "timed": model.timed,
        "query_time": "at" in model.beside,
        "event_types": "types" in model.beside,
        "user_features": "user" in model.beside,
        "repeats": model.repeats,
    }


def _real_inputs(data: Interactions, queries: Queries, model: SASRec) -> Iterator[Arrays]:
    # Sizes that leave no dimension at the value it was exported with; every other batch with lists to exclude and allow.
    rng = np.random.default_rng(0)
    start, k = 0, min(TOP + 1, data.item_count)
    rows = at_once(data.item_count, PROVED)
    for size in (1, 2, 7, 29, 101, PROVED):
        some = queries[slice(start, min(start + size, rows))]
        if not len(some):
            return
        asked = ask(data, some, model.window, model.beside)
        filtered = start % 2 == 1
        lists = rng.integers(1, data.item_count + 1, (2, len(some), min(data.item_count // 2, 1000) if filtered else 1))
        yield {
            "history": asked.history.numpy(),
            "lengths": asked.lengths.numpy(),
            **{name: values.numpy() for name, values in asked.beside.items()},
            "k": np.array(k),
            "exclude": lists[0] * filtered,
            "allow": lists[1] * filtered,
        }
        start += size


def _changed_lists(want: Arrays, got: Arrays) -> int:
    """Rows whose first ten items differ, by more than a swap of items that score the same up to rounding."""
    scores = want["scores"].astype(np.float64)
    gaps = np.full((scores.shape[0], scores.shape[1] + 1), np.inf)
    with np.errstate(invalid="ignore"):
        gaps[:, 1:-1] = np.nan_to_num(scores[:, :-1] - scores[:, 1:], nan=np.inf)
    clear = np.minimum(gaps[:, :-1], gaps[:, 1:]) > TOLERANCE / 10
    changed = (want["items"] != got["items"]) & clear
    return int(changed[:, :TOP].any(1).sum())


def _changed_favourites(want: Arrays, got: Arrays) -> int:
    """Histories whose most attended item is another one, by more than rounding."""
    a, b = want["attention"].astype(np.float64), got["attention"].astype(np.float64)
    theirs = np.take_along_axis(a, b.argmax(1)[:, None], 1)[:, 0]
    return int((a.max(1) - theirs > TOLERANCE).sum())


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")
