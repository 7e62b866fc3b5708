"""Registered models: taken out of the registry, or moved in it."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from headwise.errors import InputError
from headwise.files import replacing
from headwise.model_folder import read_card
from headwise.tracking.earlier import kind_of
from headwise.tracking.promotion import promote as decide
from headwise.tracking.registry import fetch

METRICS: Mapping[str, tuple[str, Literal["min", "max"]]] = {
    "recommender": ("test/ndcg_10", "max"),
    "recogniser": ("test/wer", "min"),
}


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


def promote(name: str, version: str, *, alias: str, force: str | None) -> Mapping[str, Any]:
    """Makes a version the champion if its test figure is better than the champion's on the same data, or by force.

    Raises:
        NotFound: there is no such name or version.
        InputError: it is not better, and nobody forced it.
    """
    if not version.isdecimal():
        raise InputError(f"version {version!r} is not a number; `headwise ui` shows the versions of {name}")
    if not re.fullmatch(r"(?!latest$|v\d+$)[\w-]+", alias):
        raise InputError(f"--alias {alias!r}: letters, digits, _ and - make an alias, but not latest or v1, v2 ...")
    if force is not None and not force.strip():
        raise InputError("--force needs a reason, which is recorded on the version")
    metric, mode = METRICS[kind_of(name, version)]
    decision = decide(name, int(version), metric=metric, mode=mode, alias=alias, force=force or "")
    if not decision.promoted:
        raise InputError(
            f"models:/{name}/{version} was not promoted: {decision.reason}; `--force REASON` does it all the same"
        )
    print(f"models:/{name}@{alias} is now version {version}: {decision.reason}")
    return {"name": name, "version": int(version), "alias": alias, "reason": decision.reason, "before": decision.before}
