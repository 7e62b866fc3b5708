"""What earlier runs and versions say of themselves."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from headwise.errors import NotFound
from headwise.tracking.connection import answered, connect
from headwise.tracking.registry import version_of

KIND_TAG = "headwise.kind"


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


def kind_of(name: str, version: str) -> str:
    """The kind of a registered version, "recommender" or "recogniser".

    Raises:
        NotFound: there is no such version, or it was not registered by headwise.
    """
    found = version_of(connect().MlflowClient(), name, version=version)
    if KIND_TAG not in found.tags:
        raise NotFound(f"models:/{name}/{version}: it was not registered by headwise")
    return str(found.tags[KIND_TAG])
