"""MLflow's own pages, started so that they answer in seconds, by default only to this machine."""

import os
import sys

from headwise.tracking.connection import STORE


def ui_command(host: str = "127.0.0.1", port: int = 5000) -> tuple[list[str], dict[str, str]]:
    """The command that shows all runs at http://`host`:`port`, and the environment to start it in."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or STORE
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    # With its job runner the server takes over a minute to start.
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return command, dict(os.environ) | settings
