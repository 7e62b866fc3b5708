"""Where an evaluation goes: a table on the terminal, a page and a JSON file in a folder, a run in MLflow."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from headwise.files import replacing
from headwise_pipelines.recsys.findings import Findings, Scored, SplitFindings

EXPERIMENT = "recsys-evaluation"
PAGE, VALUES = "evaluation.html", "evaluation.json"


def write(findings: Findings, folder: Path) -> Path:
    """The page and, beside it, everything on it as JSON; each whole or not at all.

    Returns:
        The page.
    """
    from headwise_pipelines.recsys.page import page  # matplotlib takes a second

    with replacing(folder / VALUES) as draft:
        draft.write_text(json.dumps(findings.plain(), indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    with replacing(folder / PAGE) as draft:
        draft.write_text(page(findings), encoding="utf-8")
    return folder / PAGE


def track(findings: Findings, folder: Path) -> str | None:
    """A run of its own in MLflow with every figure, the page and the JSON file; None where MLflow is not installed.

    Returns:
        A line that says where to look at it.
    """
    from headwise.tracking.connection import available
    from headwise.tracking.describe import DataFacts
    from headwise.tracking.run import Run

    if not available():
        return None
    data, [first, *others] = findings.data, findings.models
    tags = {"product": "recsys", "data": data["name"], "model": first["name"], "model run": first["run"]}
    tags |= {f"model {number}": other["name"] for number, other in enumerate(others, 2)}
    profile = {key: data[key] for key in ("users", "items", "events", "min_count")}
    with Run(EXPERIMENT, f"{first['name']} on {data['name']}", folder, tags=tags) as run:
        run.config({"models": [model["name"] for model in findings.models], "data": data["source"]})
        run.dataset(DataFacts(data["name"], data["fingerprint"], data["source"], profile=profile), context="evaluation")
        run.metrics(dict(_metrics(findings)), step=0)
        for name in (PAGE, VALUES):
            run.artifact(folder / name)
        return run.where


def answer(findings: Findings) -> dict[str, Any]:
    """What a program is told: everything, and the first model's own figures where they are easily found."""
    own = findings.models[0]
    by_name = {split.split: split for split in findings.splits}
    chosen = by_name.get(str(own["split"]), findings.splits[0])
    return {
        "split": chosen.split,
        "metrics": next((dict(each.metrics) for each in chosen.models if each.name == own["name"]), {}),
        "baselines": {each.name: dict(each.metrics) for each in chosen.scored if each.kind == "baseline"},
        **findings.plain(),
    }


def show(findings: Findings) -> None:
    """A table of each split on the terminal, and why a model or a split is not there."""
    console = Console(highlight=False)
    for split in findings.splits:
        console.print(_table(split, f"{split.title} split of {findings.data['name']}: {split.queries:,} queries"))
        for name, reason in split.refused.items():
            print(f"{name} has no figure here: {reason}")
    for name, reason in findings.missing.items():
        print(f"{name} split left out: {reason}")


def _table(split: SplitFindings, title: str) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold")
    made.add_column("", overflow="fold")
    for label in ("HR@10", "MRR@20", "NDCG@10", "95 %"):
        made.add_column(label, justify="right")
    first = split.models[0].name if split.models else ""
    tested = {each.other: each.corrected for each in split.compared if (each.model, each.metric) == (first, "ndcg_10")}
    if tested:
        made.add_column("p", justify="right")
        made.caption = f"p: NDCG@10 not that of {first}; paired test, corrected for {len(split.compared)} comparisons"
        made.caption_justify = "left"
    baselines = sorted(
        (each for each in split.scored if each.kind == "baseline"), key=lambda each: each.metrics["ndcg_10"]
    )
    for each in [*baselines, *reversed(split.models)]:
        made.add_row(*_cells(each), *_p(tested, each.name), style="bold" if each.kind == "model" else None)
    return made


def _cells(each: Scored) -> Iterator[str]:
    yield each.name
    yield from (f"{each.metrics[name]:.4f}" for name in ("hr_10", "mrr_20", "ndcg_10"))
    low, high = each.intervals["ndcg_10"]
    yield f"{low:.4f}-{high:.4f}"


def _p(tested: Mapping[str, float], name: str) -> Iterator[str]:
    if tested:
        yield "" if name not in tested else "< 0.001" if tested[name] < 0.001 else f"{tested[name]:.3f}"


def _metrics(findings: Findings) -> Iterator[tuple[str, float]]:
    numbers = {model["name"]: number for number, model in enumerate(findings.models, 1)}
    for split in findings.splits:
        for each in split.scored:
            who = f"baseline/{each.name}/" if each.kind == "baseline" else _which(numbers[each.name])
            values = {**each.metrics, **each.beyond, **each.sampled}
            yield from ((f"{split.title}/{who}{name}", value) for name, value in values.items())
        for pair in split.compared:
            other = f"model {numbers[pair.other]}" if pair.other in numbers else pair.other
            who = f"{split.title}/{_which(numbers[pair.model])}less {other}/{pair.metric}"
            yield from {who: pair.difference, f"{who} p": pair.corrected}.items()


def _which(number: int) -> str:
    return "" if number == 1 else f"model {number}/"
