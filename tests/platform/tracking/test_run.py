import json
import time
from pathlib import Path

import numpy as np
import pytest

from headwise.errors import HeadwiseError, InputError
from headwise.tracking import connection
from headwise.tracking.connection import connect
from headwise.tracking.describe import DataFacts
from headwise.tracking.figures import attention_map
from headwise.tracking.local import LocalRun
from headwise.tracking.opening import open_run
from headwise.tracking.run import Run

DATA = DataFacts("ml-1m", "f" * 64, "/data/ml-1m", {"user": "string", "time": "long"}, {"events": 41})


@pytest.fixture
def opened(store):
    """Opens a run; `resume` continues one."""
    return lambda resume="", name="toy": Run("recsys", name, store / "run", tags={"preset": "toy"}, resume=resume)


def seen(run):
    return connect().MlflowClient().get_run(run.id)


def test_a_run_says_everything_about_itself(opened, store):
    config = {"model": {"width": 5, "windows": [3, 7]}, "note": "x" * 7001}
    with opened() as run:
        run.config(config)
        run.dataset(DATA)
        run.metrics({"valid/ndcg@10": 0.25}, step=3)
        run.figure("attention", attention_map(np.full((2, 3, 5), 0.2)))
        run.text("card.md", "# card")
        assert seen(run).info.status == "RUNNING"
        assert connect().active_run().info.run_id == run.id
    found = seen(run)
    assert found.info.status == "FINISHED"
    assert connect().get_experiment(found.info.experiment_id).name == "recsys"
    assert found.data.tags["preset"] == "toy"
    assert found.data.params["model.width"] == "5"
    assert found.data.params["model.windows"] == "[3, 7]"
    assert found.data.params["note"] == "x" * 5999 + "…"
    assert found.data.metrics == {"valid/ndcg_at_10": 0.25}
    [used] = found.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("ml-1m", "f" * 36)
    assert json.loads(used.dataset.profile) == {"events": 41, "fingerprint": "f" * 64}
    assert json.loads(used.dataset.schema)["mlflow_colspec"][1] == {"name": "time", "type": "long", "required": True}
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]
    kept = connect().artifacts.download_artifacts(f"runs:/{run.id}/config.json", dst_path=str(store / "back"))
    assert json.loads(Path(kept).read_text()) == config
    assert [file.path for file in connect().MlflowClient().list_artifacts(run.id, "figures")] == [
        "figures/attention.png"
    ]


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(1), "KILLED")]
)
def test_a_run_ends_with_the_truth_and_is_running_again_when_continued(opened, error, status):
    run = opened()

    def work():
        with run:
            run.config({"width": 5})
            run.metrics({"loss": 1.0}, 1)
            raise error

    with pytest.raises(type(error)):
        work()
    found = seen(run)
    assert (found.info.status, found.data.metrics) == (status, {"loss": 1.0})
    assert found.data.tags["headwise.ended_by"].startswith(type(error).__name__)
    with opened(resume=run.id) as again:
        assert again.id == run.id
        assert seen(run).info.status == "RUNNING"
        again.config({"width": 5})
        again.dataset(DATA)
        again.dataset(DATA)
    assert seen(run).info.status == "FINISHED"
    assert len(seen(run).inputs.dataset_inputs) == 1


def test_a_run_that_the_store_no_longer_knows_begins_anew(opened):
    with opened() as run:
        pass
    connect().MlflowClient().delete_run(run.id)
    with opened(resume=run.id) as another:
        assert another.id != run.id
    with opened(resume="a" * 32) as unknown:
        assert unknown.id != "a" * 32


def test_metrics_outlive_a_server_that_is_away(opened, monkeypatch, capsys):
    client = connect().MlflowClient
    log, away = client.log_batch, True

    def answer(self, *args, **kwargs):
        if away and kwargs.get("metrics"):
            raise connect().exceptions.MlflowException("API request failed\nwith a long tale")
        return log(self, *args, **kwargs)

    monkeypatch.setattr(client, "log_batch", answer)
    run = opened()
    spool = run.folder / "unsent-metrics.jsonl"

    def work():
        with run:
            for step in range(1201):
                run.metrics({"loss": step}, step)
            assert len(spool.read_text().splitlines()) == 500  # written once, when the first batch failed

    with pytest.raises(HeadwiseError, match=r"API request failed; 1201 values wait in .*unsent-metrics.jsonl"):
        work()
    assert capsys.readouterr().err.count("metrics wait in") == 1
    assert seen(run).info.status == "FAILED"
    away = False
    with opened(resume=run.id) as again:
        again.metrics({"loss": 1201}, 1201)
    assert not spool.exists()
    history = connect().MlflowClient().get_metric_history(run.id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, step) for step in range(1202)]


def test_where_to_look(opened, monkeypatch):
    with opened() as run:
        page = f"#/experiments/{run.experiment}/runs/{run.id}"
        assert run.where == f"headwise ui, then http://127.0.0.1:5000/{page}"
        with monkeypatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000/")
            assert run.where == f"http://mlflow:5000/{page}"


def test_telemetry_is_off(store):
    from mlflow.telemetry.utils import is_telemetry_disabled

    connect()
    assert is_telemetry_disabled()


def test_without_mlflow_a_run_is_kept_in_files(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "find_spec", lambda name: None)
    with open_run("speech", "an4", tmp_path, tags={"preset": "an4"}, resume="a" * 32) as run:
        assert isinstance(run, LocalRun)
        assert run.id.startswith("local-")
        run.config({"model": {"width": 5}})
        run.dataset(DATA)
        run.metrics({"valid/wer": 0.5}, step=7)
        run.figure("attention", attention_map(np.full((1, 2, 3), 0.3)))
    assert json.loads((tmp_path / "config.json").read_text()) == {"model": {"width": 5}}
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (line["step"], line["valid/wer"]) == (7, 0.5)
    assert abs(line["time"] - time.time()) < 3600
    assert (tmp_path / "figures/attention.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "status.json").read_text())["status"] == "FINISHED"
    with pytest.raises(InputError, match="mlflow is not installed; install headwise with its tracking"):
        connect()


def test_a_run_begun_in_files_stays_there(store):
    with open_run("speech", "an4", store / "run", resume="local-abc") as run:
        assert isinstance(run, LocalRun)
        assert run.id == "local-abc"
