"""The one place that imports MLflow: where it keeps things, how it is kept quiet, and what its failures mean."""

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType

from headwise.errors import HeadwiseError, InputError, NotFound

STORE = "sqlite:///mlflow.db"  # in the working directory, unless MLFLOW_TRACKING_URI names another place

# Warnings that MLflow 3.17 causes within itself, on every start and whatever one does.
KNOWN = (r"The ``noload`` loader strategy is deprecated", r".*Any type hint is inferred as AnyType")


def available() -> bool:
    """Whether MLflow is installed."""
    return find_spec("mlflow") is not None


def connect() -> ModuleType:
    """MLflow, pointed at the store that the environment names or at `STORE`, without telemetry. The first call takes seconds.

    Raises:
        InputError: MLflow is not installed.
    """
    if not available():
        raise InputError("mlflow is not installed; install headwise with its tracking: pip install 'headwise[track]'")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read once, while mlflow is imported
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    with _quiet():
        import mlflow

    uri = os.environ.get("MLFLOW_TRACKING_URI") or STORE
    if mlflow.get_tracking_uri() != uri:
        mlflow.set_tracking_uri(uri)
    for talker in ("alembic", "mlflow.store", "mlflow.system_metrics"):
        logging.getLogger(talker).setLevel(logging.WARNING)
    return mlflow


@contextmanager
def answered() -> Iterator[None]:
    """Turn what MLflow raises inside the block into one message for a person.

    Raises:
        NotFound: MLflow knows nothing under that name.
        HeadwiseError: the store does not answer, or refuses.
    """
    mlflow = connect()
    try:
        with _quiet():
            yield
    except mlflow.exceptions.MlflowException as error:
        reason = _reason(str(error))
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(f"{place()}: {reason}") from error
        raise HeadwiseError(f"{place()}: {reason}") from error
    except OSError as error:  # requests' errors, and those of an artifact store on a disk
        raise HeadwiseError(f"{place()}: {_reason(str(error))}") from error


def place() -> str:
    """The store in use, without a password."""
    return re.sub(r"//[^/@]*@", "//", f"tracking at {connect().get_tracking_uri()}")


@contextmanager
def hurried() -> Iterator[None]:
    """Let a server that is away fail a request in seconds; MLflow's own patience of minutes would hold training up."""
    hurry = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    before = {name: os.environ.get(name) for name in hurry}
    os.environ.update(hurry)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        for message in KNOWN:
            warnings.filterwarnings("ignore", message)
        yield


def _reason(text: str) -> str:
    if "Max retries exceeded" in text or "Connection refused" in text:
        return "the server does not answer"
    return text.strip().splitlines()[0] if text.strip() else "no reason given"
