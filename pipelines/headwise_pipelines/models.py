"""Registered models: taken out of the registry, or moved in it."""

import re
import shutil
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from headwise.errors import InputError
from headwise.examples import Examples
from headwise.files import replacing
from headwise.model_folder import read_card
from headwise.serving.session import Session
from headwise.tracking.earlier import kind_of
from headwise.tracking.promotion import promote as decide
from headwise.tracking.promotion import roll_back
from headwise.tracking.registry import fetch

METRICS: Mapping[str, tuple[str, Literal["min", "max"]]] = {
    "recommender": ("test/ndcg_10", "max"),
    "recogniser": ("test/wer", "min"),
}
TIMED = 31  # requests whose median counts


def export(run: str, out: Path) -> Mapping[str, Any]:
    """Writes the model folder of a run or of a registered version, whole and verified, to `out`.

    Raises:
        NotFound: there is no such run or model.
        InputError: `out` exists, or cannot.
    """
    if out.exists():
        raise InputError(f"{out}: exists already; choose a folder that does not, or remove it")
    if files := [parent for parent in out.parents if parent.is_file()]:
        raise InputError(f"{out}: {files[0]} is a file; choose a folder elsewhere")
    uri = run if ":/" in run or Path(run).is_dir() else f"runs:/{run}"
    with TemporaryDirectory(prefix="headwise-") as scratch, replacing(out) as draft:
        shutil.copytree(fetch(uri, Path(scratch)), draft)
    card = read_card(out)
    print(f"{out}: a {card.kind}, {card.name}")
    return {"folder": str(out), "kind": card.kind, "files": sorted(card.files)}


def promote(
    name: str, version: str, *, alias: str, force: str | None, latency: float | None = None
) -> Mapping[str, Any]:
    """Makes a version the champion if a paired test shows that it is better than the champion, or by force.

    Args:
        name: registered name.
        version: the candidate's number.
        alias: usually the champion.
        force: a reason to promote it whatever the test says.
        latency: milliseconds that its graph may take for one request, at the median; no limit by default.

    Raises:
        NotFound: there is no such name or version.
        InputError: it is not shown to be better and nobody forced it, it no longer answers as it did when it was exported, or
            it is too slow.
    """
    if not version.isdecimal():
        raise InputError(f"version {version!r} is not a number; `headwise ui` shows the versions of {name}")
    _check_alias(alias)
    if force is not None and not force.strip():
        raise InputError("--force needs a reason, which is recorded on the version")
    metric, mode = METRICS[kind_of(name, version)]
    with TemporaryDirectory(prefix="headwise-") as scratch:
        objection = _objection(fetch(f"models:/{name}/{version}", Path(scratch)), latency)
    decision = decide(name, int(version), metric=metric, mode=mode, alias=alias, force=force or "", objection=objection)
    if not decision.promoted:
        remedy = "" if objection else "; `--force REASON` does it all the same"
        raise InputError(f"models:/{name}/{version} was not promoted: {decision.reason}{remedy}")
    print(f"models:/{name}@{alias} is now version {version}: {decision.reason}")
    return {"name": name, "version": int(version), "alias": alias, "reason": decision.reason, "before": decision.before}


def rollback(name: str, *, alias: str, reason: str) -> Mapping[str, Any]:
    """Makes the version champion again that was it before the present one.

    Raises:
        NotFound: there is no such name, or nobody holds the alias.
        InputError: nobody held it before.
    """
    _check_alias(alias)
    decision = roll_back(name, alias=alias, reason=reason)
    print(f"models:/{name}@{alias} is version {decision.after} again, no longer {decision.before}: {reason}")
    return {"name": name, "alias": alias, "version": decision.after, "before": decision.before, "reason": reason}


def _check_alias(alias: str) -> None:
    if not re.fullmatch(r"(?!latest$|v\d+$)[\w-]+", alias):
        raise InputError(f"--alias {alias!r}: letters, digits, _ and - make an alias, but not latest or v1, v2 ...")


def _objection(folder: Path, latency: float | None) -> str:
    """Why a model must not serve, whatever its figures; empty if nothing is against it."""
    examples = Examples.load(folder)
    if examples is None:
        return "" if latency is None else "it was exported without an example to time it by; export it again"
    graph = folder / f"{read_card(folder).kind}.onnx"
    session = Session(graph, inputs=examples.asked, outputs=examples.answered)
    try:
        examples.check(session.run, session.outputs, graph)
    except InputError as error:
        return str(error)
    if latency is None:
        return ""
    taken = _milliseconds(session, examples)
    return f"it takes {taken:.2g} ms for a request, {latency:g} are allowed" if taken > latency else ""


def _milliseconds(session: Session, examples: Examples) -> float:
    one = {name: value[:1] if np.ndim(value) else value for name, value in examples.asked.items()}
    times = []
    for _ in range(TIMED):
        start = time.perf_counter()
        session.run(**one)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
