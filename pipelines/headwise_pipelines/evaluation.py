"""`headwise evaluate`: model folders, as they are served, on the test part of a data set."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console

from headwise.errors import InputError, NotFound
from headwise.model_folder import read_card
from headwise.serving.registry import resolve
from headwise_pipelines.summary import table_of

SPLITS = ("leave-one-out", "temporal")


def evaluate(
    models: Sequence[str],
    data: Path,
    *,
    split: str | None,
    report: Path | None,
    sampled: int,
    other_data: bool,
    work: Path,
    quiet: bool,
) -> Mapping[str, Any]:
    """The figures of models on the test part of a data set, beside the baselines; prints them unless `quiet`.

    Of a recommender also a page, a JSON file and a run in MLflow.

    Args:
        models: each `models:/name@alias`, `models:/name/version`, `runs:/id` or a model folder; several only of recommenders.
        data: raw data, in any form that training reads.
        split: "leave-one-out", "temporal", or "both" of a recommender; None is both.
        report: folder of the page; one in `work` where None.
        sampled: also rank each target among so many drawn items.
        other_data: whether the data may be others than a model was trained on.
        work: where prepared data, fetched models and pages are kept.
        quiet: print nothing.

    Returns:
        The first model's metrics and those of the baselines, and for recommenders everything that is on the page.

    Raises:
        InputError: something is not there, does not fit, or leaks.
    """
    if not data.exists():
        raise NotFound(f"{data}: there is no such file or folder; give the raw data with --data")
    if again := {name for name in models if models.count(name) > 1}:
        raise InputError(f"{', '.join(sorted(again))}: named more than once; name each model once")
    folders = {name: _folder(name, work) for name in models}
    cards = {name: read_card(folder) for name, folder in folders.items()}
    kinds = {card.kind for card in cards.values()}
    if kinds == {"recommender"}:
        return _recommenders(folders, data, split, report, sampled, other_data, work, quiet)
    if len(models) > 1:
        raise InputError(
            f"{', '.join(models)}: only recommenders are compared with each other; evaluate each by itself"
        )
    return _recogniser(models[0], folders[models[0]], data, split, report, sampled, work, quiet)


def _recommenders(
    folders: Mapping[str, Path],
    data: Path,
    split: str | None,
    report: Path | None,
    sampled: int,
    other_data: bool,
    work: Path,
    quiet: bool,
) -> Mapping[str, Any]:
    from headwise_pipelines.recsys.evaluate import Asked, evaluate
    from headwise_pipelines.recsys.publishing import answer, table, track, write

    asked = [Asked(name, folder, read_card(folder)) for name, folder in folders.items()]
    splits = SPLITS if split in (None, "both") else (split,)
    findings = evaluate(asked, data, splits=splits, work=work, sampled=sampled, other_data=other_data)
    found = answer(findings)
    folder = report or work / "evaluations" / _name(findings.data["name"], [folders, findings.data, splits, sampled])
    page = write(findings, folder)
    if not quiet:
        console = Console(highlight=False)
        for each in findings.splits:
            console.print(table(each, f"{each.split} split of {findings.data['name']}: {each.queries:,} queries"))
            for name, reason in each.refused.items():
                console.print(f"{name} has no figure here: {reason}", soft_wrap=True)
        for name, reason in findings.missing.items():
            console.print(f"{name} split left out: {reason}", soft_wrap=True)
        console.print(f"page     {page}", soft_wrap=True)
    where = track(findings, folder)
    if where and not quiet:
        console.print(f"run      {where}", soft_wrap=True)
    return {"model": findings.models[0]["name"], "page": str(page), "run": where, **found}


def _recogniser(
    name: str,
    folder: Path,
    data: Path,
    split: str | None,
    report: Path | None,
    sampled: int,
    work: Path,
    quiet: bool,
) -> Mapping[str, Any]:
    from headwise_pipelines.speech.evaluate import evaluate

    for flag, given in {"--split": split, "--report": report, "--sampled": sampled}.items():
        if given:
            raise InputError(f"{flag} {given} is for recommenders; {name} is a {read_card(folder).kind}")
    metrics, beside = evaluate(folder, data, work)
    if not quiet:
        Console(highlight=False).print(table_of("speech", f"{name} on {data}", metrics, beside))
    return {"model": name, "data": str(data), "metrics": metrics, "baselines": beside}


def _folder(model: str, work: Path) -> Path:
    if model.startswith("runs:/"):
        from headwise.tracking.registry import fetch

        return fetch(model, work / "models")
    return resolve(model).folder


def _name(data: str, what: Any) -> str:
    return f"{data}-{sha256(repr(what).encode()).hexdigest()[:8]}"
