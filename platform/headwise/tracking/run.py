"""One run in MLflow: opened or continued, described whole, and closed with the truth about how it ended."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from headwise.errors import HeadwiseError, NotFound
from headwise.tracking.batches import Batches, Point
from headwise.tracking.connection import answered, connect, hurried
from headwise.tracking.describe import DataFacts, flattened, metric_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VALUE = 6000  # characters of a parameter that MLflow keeps; config.json has the whole
DIGEST = 36  # characters of a dataset's digest that MLflow keeps; the profile has the whole fingerprint
PARAMS = 100  # parameters that MLflow takes in one call


class Run:
    """A run in MLflow, active while the block lasts.

        with Run("recsys", "ml_1m", folder, tags={"preset": "ml_1m"}) as run:
            run.config(config)
            run.metrics({"train/loss": 1.8}, step=10)

    A run that is opened inside the block of another is its child.

    A run that is left by an exception is FAILED, by Ctrl-C or SIGTERM KILLED, otherwise FINISHED. Continued by its id it
    is RUNNING again. Metrics are sent in batches and outlive a server that is away, see `Batches`; everything else waits for the
    server as long as MLflow does, some minutes, and then fails with one message.

    Args:
        product: the experiment, `recsys` or `speech`.
        name: for people, usually the preset.
        folder: where metrics wait while the server is away: the run's own folder.
        tags: preset, data, commit, version.
        resume: id of a run to continue; a new one is opened when the store no longer knows it.
    """

    def __init__(
        self, product: str, name: str, folder: Path, *, tags: Mapping[str, str] | None = None, resume: str = ""
    ) -> None:
        self.product, self.name, self.folder = product, name, folder
        self._tags, self._resume = dict(tags or {}), resume
        self.id = ""
        self.experiment = ""

    def __enter__(self) -> Self:
        mlflow = connect()
        self._client = mlflow.MlflowClient()
        with answered():
            self.experiment = self._experiment_id()
            info = self._start(self._resume if self._known(self._resume) else "")
        self.id = info.run_id
        self._batches = Batches(self._send, self.folder / "unsent-metrics.jsonl")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unsent = self._send_last(patient=error is None)
        ended = self._end(_status(kind if unsent is None else HeadwiseError), error)
        if error is None and (problem := unsent or ended):
            raise problem

    @property
    def where(self) -> str:
        """A line that says where to look at this run."""
        uri = connect().get_tracking_uri()
        page = f"#/experiments/{self.experiment}/runs/{self.id}"
        if uri.startswith("http"):
            return f"{uri.rstrip('/')}/{page}"
        return f"headwise ui, then http://127.0.0.1:5000/{page}"

    def config(self, config: Mapping[str, Any]) -> None:
        """Log a configuration whole: as parameters by dotted names, and as `config.json`."""
        from mlflow.entities import Param

        params = [
            Param(name, value if len(value) <= VALUE else value[: VALUE - 1] + "…") for name, value in flattened(config)
        ]
        with answered():
            for start in range(0, len(params), PARAMS):
                self._client.log_batch(self.id, params=params[start : start + PARAMS])
        self.text("config.json", json.dumps(config, indent=2, default=str, ensure_ascii=False) + "\n")

    def dataset(self, data: DataFacts, context: str = "training") -> None:
        """Log a dataset as an input of the run, by what is known of it; nothing of it is read."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        columns = [{"name": name, "type": kind, "required": True} for name, kind in data.schema.items()]
        entity = Dataset(
            name=data.name,
            digest=data.fingerprint[:DIGEST],
            source_type="local",
            source=json.dumps({"uri": data.source}),
            schema=json.dumps({"mlflow_colspec": columns}),
            profile=json.dumps({**data.profile, "fingerprint": data.fingerprint}),
        )
        with answered():
            self._client.log_inputs(self.id, [DatasetInput(entity, [InputTag("mlflow.data.context", context)])])

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Keep values measured at a step; they are sent a few seconds later, many at once."""
        self._batches.add({metric_name(name): value for name, value in values.items()}, step)

    def flush(self) -> None:
        """Send the metrics that wait."""
        self._batches.flush()

    def figure(self, name: str, figure: "Figure") -> None:
        """Keep a figure as `figures/<name>.png`."""
        with answered():
            self._client.log_figure(self.id, figure, f"figures/{name}.png")

    def text(self, name: str, text: str) -> None:
        """Keep a text under a file name."""
        with answered():
            self._client.log_text(self.id, text, name)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file, or a folder with all that is in it."""
        with answered():
            keep = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            keep(self.id, str(path), folder or None)

    def tag(self, name: str, value: str) -> None:
        """Set a tag of the run."""
        with answered():
            self._client.set_tag(self.id, name, value)

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self.product)
        return str(found.experiment_id if found else self._client.create_experiment(self.product))

    def _known(self, run: str) -> bool:
        if not run:
            return False
        try:
            with answered():
                return bool(self._client.get_run(run).info.lifecycle_stage == "active")
        except NotFound:
            return False

    def _start(self, run: str) -> Any:
        names = {} if run else {"run_name": self.name}
        if run:
            self.experiment = self._client.get_run(run).info.experiment_id
        inside = connect().active_run() is not None  # a trial inside its sweep, which MLflow makes its parent
        active = connect().start_run(
            run_id=run or None,
            experiment_id=self.experiment,
            tags=self._tags,
            log_system_metrics=True,
            nested=inside,
            **names,
        )
        return active.info

    def _send(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(point.name, point.value, point.milliseconds, point.step) for point in points]
        with hurried(), answered():
            self._client.log_batch(self.id, metrics=metrics)

    def _send_last(self, patient: bool) -> HeadwiseError | None:
        try:
            if patient:
                self._batches.close()
            else:
                self._batches.flush()
        except HeadwiseError as problem:
            return problem
        return None

    def _end(self, status: str, error: BaseException | None) -> HeadwiseError | None:
        try:
            with hurried(), answered():
                if error is not None:
                    self._client.set_tag(self.id, "headwise.ended_by", f"{type(error).__name__}: {error}"[:500])
                connect().end_run(status)
        except HeadwiseError as problem:
            return problem
        return None


def _status(kind: type[BaseException] | None) -> str:
    if kind is None:
        return "FINISHED"
    return "KILLED" if issubclass(kind, KeyboardInterrupt | SystemExit) else "FAILED"
