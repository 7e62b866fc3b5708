"""The MLflow pages over what was trained here."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from headwise.errors import InputError, NotFound

STORE = "sqlite:///mlflow.db"
QUICK = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def ui(*, host: str, port: int) -> None:
    """Becomes an MLflow server over the tracking store, until it is stopped.

    Raises:
        InputError: the store is a server already, or MLflow is not installed.
        NotFound: nothing was trained here.
    """
    store = os.environ.get("MLFLOW_TRACKING_URI", STORE)
    if urlsplit(store).scheme in ("http", "https"):
        raise InputError(f"MLFLOW_TRACKING_URI is a server already: open {store} in a browser")
    if find_spec("mlflow") is None:
        raise InputError("MLflow is not installed; add it with: pip install 'headwise[track]'")
    if store == STORE and not Path("mlflow.db").is_file():
        raise NotFound("there is no mlflow.db here; train something first, or go to the folder in which you did")
    print(
        f"MLflow's pages: http://{host}:{port}  (the first start takes some 15 s; Ctrl-C stops)",
        file=sys.stderr,
        flush=True,
    )
    options = ["--backend-store-uri", store, "--host", host, "--port", str(port), "--workers", "1"]
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "server", *options], {**os.environ, **QUICK})
