"""What earlier runs and versions say of themselves."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from headwise.errors import InputError, NotFound
from headwise.tracking.connection import answered, connect
from headwise.tracking.registry import version_of

KIND_TAG = "headwise.kind"
WEIGHTS = "weights.ckpt"  # of the kept checkpoint, by themselves


def config_of(run: str) -> Mapping[str, Any]:
    """The whole configuration of an earlier run.

    Raises:
        NotFound: there is no such run, or it kept no configuration.
    """
    client = connect().MlflowClient()
    with TemporaryDirectory(prefix="headwise-") as scratch, answered():
        client.get_run(run)
        if not any(entry.path == "config.json" for entry in client.list_artifacts(run)):
            raise NotFound(f"run {run}: it has no config.json; was it made by `headwise train`?")
        path = Path(client.download_artifacts(run, "config.json", scratch))
        config: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def weights_of(run: str, into: Path) -> Path:
    """The weights that an earlier run kept, fetched into a folder.

    Raises:
        NotFound: there is no such run, or it kept no weights with the tracker.
    """
    client = connect().MlflowClient()
    with answered():
        client.get_run(run)
        if not any(entry.path == WEIGHTS for entry in client.list_artifacts(run)):
            raise NotFound(f"run {run}: it has no {WEIGHTS}; name its own folder instead, such as .headwise/runs/NAME")
        return Path(client.download_artifacts(run, WEIGHTS, str(into)))


def run_of(uri: str) -> str:
    """The id of the run that `models:/name/version`, `models:/name@alias` or `runs:/id` leads to.

    Raises:
        NotFound: there is no such version.
        InputError: it is not such a URI.
    """
    if match := re.fullmatch(r"runs:/([^/]+)(/.*)?", uri):
        return match[1]
    if match := re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", uri):
        found = version_of(connect().MlflowClient(), match[1], alias=match[2] or "", version=match[3] or "")
        return str(found.run_id)
    raise InputError(
        f"{uri}: a run is named by its id, its folder, runs:/id, models:/name/version or models:/name@alias"
    )


def kind_of(name: str, version: str) -> str:
    """The kind of a registered version, "recommender" or "recogniser".

    Raises:
        NotFound: there is no such version, or it was not registered by headwise.
    """
    found = version_of(connect().MlflowClient(), name, version=version)
    if KIND_TAG not in found.tags:
        raise NotFound(f"models:/{name}/{version}: it was not registered by headwise")
    return str(found.tags[KIND_TAG])
