"""The MLflow pages over what was trained here."""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from headwise.errors import InputError, NotFound
from headwise.tracking.connection import STORE, available
from headwise.tracking.ui import ui_command


def ui(*, host: str, port: int) -> None:
    """Becomes an MLflow server over the tracking store, until it is stopped.

    Raises:
        InputError: the store is a server already, or MLflow is not installed.
        NotFound: nothing was trained here.
    """
    store = os.environ.get("MLFLOW_TRACKING_URI") or STORE
    if urlsplit(store).scheme in ("http", "https"):
        raise InputError(f"MLFLOW_TRACKING_URI is a server already: open {store} in a browser")
    if not available():
        raise InputError("MLflow is not installed; add it with: pip install 'headwise[track]'")
    if store == STORE and not Path("mlflow.db").is_file():
        raise NotFound("there is no mlflow.db here; train something first, or go to the folder in which you did")
    print(
        f"MLflow's pages will be at http://{host}:{port} in some 20 s; Ctrl-C stops them", file=sys.stderr, flush=True
    )
    command, environment = ui_command(host, port)
    os.execve(command[0], command, environment)
