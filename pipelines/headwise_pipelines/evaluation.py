"""`headwise evaluate`: model folders, as they are served, on the test part of a data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from headwise.errors import InputError, NotFound
from headwise.model_folder import read_card
from headwise.serving.registry import resolve
from headwise.training.runs import config_hash
from headwise_pipelines.recsys.evaluate import Asked
from headwise_pipelines.recsys.evaluate import evaluate as evaluate_recommenders
from headwise_pipelines.recsys.publishing import answer, show, track, write
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
    asked = [
        Asked(name, folder, read_card(folder)) for name, folder in ((name, _folder(name, work)) for name in models)
    ]
    if all(one.card.kind == "recommender" for one in asked):
        splits = SPLITS if split in (None, "both") else (split,)
        return _recommenders(asked, data, splits, report, work, quiet, sampled=sampled, other_data=other_data)
    if len(asked) > 1:
        raise InputError(
            f"{', '.join(models)}: only recommenders are compared with each other; evaluate each by itself"
        )
    for flag, given in {"--split": split, "--report": report, "--sampled": sampled, "--other-data": other_data}.items():
        if given:
            raise InputError(f"{flag} is for recommenders; {models[0]} is a {asked[0].card.kind}")
    return _recogniser(asked[0], data, work, quiet)


def _recommenders(
    asked: Sequence[Asked], data: Path, splits: Sequence[str], report: Path | None, work: Path, quiet: bool, **how: Any
) -> Mapping[str, Any]:
    findings = evaluate_recommenders(asked, data, splits=splits, work=work, **how)
    what = [findings.models, findings.data, splits, how]
    page = write(findings, report or work / "evaluations" / f"{findings.data['name']}-{config_hash({'what': what})}")
    if not quiet:
        show(findings)
        print(f"page     {page}")
    where = track(findings, page.parent)
    if where and not quiet:
        print(f"run      {where}")
    return {"model": asked[0].name, "page": str(page), "run": where, **answer(findings)}


def _recogniser(asked: Asked, data: Path, work: Path, quiet: bool) -> Mapping[str, Any]:
    from headwise_pipelines.speech.evaluate import evaluate

    metrics, beside = evaluate(asked.folder, data, work)
    if not quiet:
        Console(highlight=False).print(table_of("speech", f"{asked.name} on {data}", metrics, beside))
    return {"model": asked.name, "data": str(data), "metrics": metrics, "baselines": beside}


def _folder(model: str, work: Path) -> Path:
    if model.startswith("runs:/"):
        from headwise.tracking.registry import fetch

        return fetch(model, work / "models")
    return resolve(model).folder
