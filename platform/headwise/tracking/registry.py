"""The registry: model folders go in whole, come out whole, and are named by URI.

models:/name/version    models:/name@alias    runs:/id    or a folder on this machine
"""

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headwise.errors import HeadwiseError, InputError, NotFound
from headwise.files import replacing, sha256
from headwise.model_folder import CARD, read_card
from headwise.tracking import package
from headwise.tracking.connection import answered, connect
from headwise.tracking.describe import metric_name
from headwise.tracking.local import LocalRun
from headwise.tracking.run import Run

MODEL = "model"  # name of the model inside its run
MODEL_TAG = (
    "headwise.model"  # MLflow's id of the stored model; the store itself forgets which model a version was made of
)
CARD_TAG = "headwise.card"  # SHA-256 of model.json, by which a version is recognised
DATA_TAG = "headwise.data"  # fingerprint of the data that the test metrics were measured on
METRIC_TAG = "metric."


@dataclass(frozen=True)
class Found:
    """A model in the store that a URI led to."""

    model: str  # MLflow's own id of the stored model
    label: str  # for people and folders: name-version, or the run's id


def register(
    run: Run | LocalRun,
    folder: Path,
    name: str,
    *,
    example: Mapping[str, np.ndarray],
    requirements: Sequence[str],
    description: str,
    metrics: Mapping[str, float],
    data: str,
) -> int:
    """Log a model folder into a run and give it the next version of a registered name.

    A run that was stopped in between and is continued gets the version that it already made.

    Args:
        run: the open run that made the model.
        folder: the model folder.
        name: registered name, made on first use.
        example: one input of the graph, by name.
        requirements: lines of requirements.txt; nothing is inferred, which would cost seconds and be wrong.
        description: the model card, Markdown.
        metrics: test metrics, by which `promote` compares versions.
        data: fingerprint of the data they were measured on.

    Returns:
        The version.
    """
    if isinstance(run, LocalRun):
        raise InputError(f"{run.folder}: this run is not in MLflow, there is no registry to put {name} in")
    mlflow = connect()
    client = mlflow.MlflowClient()
    card = sha256(folder / CARD)
    with answered():
        _ensure(client, name)
        for version in client.search_model_versions(f"name = '{name}'"):
            if version.run_id == run.id and version.tags.get(CARD_TAG) == card:
                return int(version.version)
        run.metrics(metrics, step=0)
        info = mlflow.models.Model.log(
            artifact_path=None,
            name=MODEL,
            flavor=package,
            flavor_name="onnx",
            run_id=run.id,
            folder=folder,
            example=example,
            requirements=requirements,
            validate_serving_input=False,  # it would start a second copy of the model; export has proved the graph already
        )
        tags = {MODEL_TAG: info.model_id, CARD_TAG: card, DATA_TAG: data, "headwise.kind": read_card(folder).kind}
        tags |= {METRIC_TAG + metric_name(key): repr(float(value)) for key, value in metrics.items()}
        made = client.create_model_version(
            name, info.artifact_path, run_id=run.id, tags=tags, description=description, model_id=info.model_id
        )
    return int(made.version)


def fetch(uri: str, into: Path) -> Path:
    """A model folder on this machine, verified byte for byte.

    Args:
        uri: `models:/name/version`, `models:/name@alias`, `runs:/id`, or a folder.
        into: where fetched models are kept; one that is there already is not fetched again.

    Raises:
        NotFound: nothing by that name; the message lists what there is.
        InputError: the bytes are not those that its card vouches for.
    """
    if not re.match(r"(models|runs):/", uri):
        read_card(Path(uri))
        return Path(uri)
    found = resolve(uri)
    target = into / f"{found.label}-{found.model[-8:]}"  # versions of two stores may share a number, models never an id
    if (target / CARD).is_file():
        read_card(target)
        return target
    with tempfile.TemporaryDirectory(prefix="headwise-") as room, replacing(target) as draft:
        with answered():
            stored = Path(connect().artifacts.download_artifacts(f"models:/{found.model}", dst_path=room))
        files = read_card(stored).files
        draft.mkdir()
        for name in (CARD, *files):
            shutil.move(stored / name, draft / name)
    return target


def resolve(uri: str) -> Found:
    """The stored model that a URI names.

    Raises:
        InputError: it is not such a URI.
        NotFound: nothing by that name; the message lists what there is.
    """
    client = connect().MlflowClient()
    if match := re.fullmatch(r"runs:/([^/]+)(/.*)?", uri):
        return _of_run(client, match[1])
    if match := re.fullmatch(r"models:/([^/@]+)@([^/@]+)", uri):
        return _found(client, match[1], alias=match[2])
    if match := re.fullmatch(r"models:/([^/@]+)/(\d+)", uri):
        return _found(client, match[1], version=match[2])
    raise InputError(f"{uri}: a model is models:/name/version, models:/name@alias, runs:/id or a folder")


def version_of(client: Any, name: str, *, version: str = "", alias: str = "") -> Any:
    """A version of a registered name, as MLflow describes it.

    Raises:
        NotFound: no such name, version or alias; the message lists what there is.
    """
    try:
        with answered():
            if alias:
                return client.get_model_version_by_alias(name, alias)
            return client.get_model_version(name, version)
    except HeadwiseError as error:
        # MLflow says "invalid parameter" for an alias that does not exist, "does not exist" for a version.
        raise NotFound(
            f"models:/{name}{'@' + alias if alias else '/' + version}: {_what_there_is(client, name)}"
        ) from error


def _found(client: Any, name: str, *, version: str = "", alias: str = "") -> Found:
    made = version_of(client, name, version=version, alias=alias)
    if MODEL_TAG not in made.tags:
        raise InputError(f"models:/{name}/{made.version}: was not registered by headwise, it has no tag {MODEL_TAG}")
    return Found(made.tags[MODEL_TAG], f"{name}-{made.version}")


def _of_run(client: Any, run: str) -> Found:
    with answered():
        outputs = client.get_run(run).outputs
    if not outputs or not outputs.model_outputs:
        raise NotFound(f"runs:/{run}: this run has no model; it was stopped before it was exported")
    return Found(outputs.model_outputs[-1].model_id, run)


def _what_there_is(client: Any, name: str) -> str:
    with answered():
        names = sorted(model.name for model in client.search_registered_models())
        if name not in names:
            return f"no model is registered as {name}; there are: {', '.join(names) or 'none'}"
        versions = sorted(int(made.version) for made in client.search_model_versions(f"name = '{name}'"))
        aliases = client.get_registered_model(name).aliases
    named = ", ".join(f"@{alias} = {version}" for alias, version in sorted(aliases.items()))
    return f"{name} has versions {', '.join(map(str, versions)) or 'none'} and aliases {named or 'none'}"


def _ensure(client: Any, name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
