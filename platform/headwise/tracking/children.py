"""Runs that were opened inside another."""

from headwise.tracking.connection import answered, connect


def fail_running(parent: str) -> int:
    """Mark as failed what a killed process left running inside a run.

    Args:
        parent: id of the run.

    Returns:
        How many there were.
    """
    client = connect().MlflowClient()
    with answered():
        experiment = client.get_run(parent).info.experiment_id
        left = client.search_runs(
            [experiment], f"tags.mlflow.parentRunId = '{parent}' and attributes.status = 'RUNNING'"
        )
        for run in left:
            client.set_terminated(run.info.run_id, "FAILED")
    return len(left)
