import pytest

from headwise.tracking.children import fail_running
from headwise.tracking.connection import connect
from headwise.tracking.run import Run


@pytest.fixture
def opened(store):
    return lambda name, resume="": Run("recsys", name, store / name, resume=resume)


def test_a_run_inside_another_is_its_child_and_neither_disturbs_the_other(opened):
    client = connect().MlflowClient()
    with opened("parent") as parent:
        for name in ("first", "second"):
            with opened(name) as child:
                child.metrics({"loss": 0.25}, step=1)
            found = client.get_run(child.id)
            assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 0.25})
            assert found.data.tags["mlflow.parentRunId"] == parent.id
        assert client.get_run(parent.id).info.status == "RUNNING"
        parent.metrics({"best": 0.5}, step=1)
    found = client.get_run(parent.id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"best": 0.5})
    assert "mlflow.parentRunId" not in found.data.tags


def test_what_a_killed_process_left_running_has_failed(opened):
    client = connect().MlflowClient()
    with opened("parent") as parent:
        with opened("whole") as whole:
            pass
        left = client.create_run(parent.experiment, tags={"mlflow.parentRunId": parent.id}).info.run_id
        other = client.create_run(parent.experiment, tags={"mlflow.parentRunId": whole.id}).info.run_id
        assert fail_running(parent.id) == 1
        assert fail_running(parent.id) == 0
    states = {run: client.get_run(run).info.status for run in (parent.id, whole.id, left, other)}
    assert states == {parent.id: "FINISHED", whole.id: "FINISHED", left: "FAILED", other: "RUNNING"}
