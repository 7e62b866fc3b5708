import subprocess
import sys

from headwise.tracking.describe import flattened, git_commit, metric_name
from headwise.tracking.ui import ui_command


def test_a_configuration_by_dotted_names():
    config = {"model": {"width": 5, "pool": {"kind": "additive"}}, "rates": [0.1, 0.2], "none": None}
    assert dict(flattened(config)) == {
        "model.width": "5",
        "model.pool.kind": "additive",
        "rates": "[0.1, 0.2]",
        "none": "null",
    }


def test_a_metric_is_named_in_mlflows_alphabet():
    assert metric_name("test/ndcg@10 (cold)") == "test/ndcg_at_10 _cold_"


def test_a_folder_outside_a_repository_has_no_commit(tmp_path):
    assert git_commit(tmp_path) == ""


def test_the_pages_are_for_this_machine_alone_and_send_nothing_home(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    command, environment = ui_command(port=5001)
    assert command[1:] == [
        *("-m", "mlflow", "server", "--backend-store-uri", "sqlite:///mlflow.db"),
        *("--host", "127.0.0.1", "--port", "5001", "--workers", "1"),
    ]
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_importing_the_room_does_not_import_mlflow():
    names = "run, local, opening, registry, promotion, ui, describe"
    program = f"import sys; from headwise.tracking import {names}; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    paths = ":".join(path for path in sys.path if path)
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": paths}, timeout=60)
