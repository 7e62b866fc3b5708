"""What every training does around the training itself, whichever product it is of."""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from torch import nn

from headwise import __version__
from headwise.errors import InputError
from headwise.model_folder import ModelCard, read_card
from headwise.tracking.describe import DataFacts, git_commit
from headwise.tracking.earlier import WEIGHTS
from headwise.tracking.evidence import Evidence
from headwise.tracking.figures import learning_curves
from headwise.tracking.local import LocalRun
from headwise.tracking.opening import open_run
from headwise.tracking.promotion import promote
from headwise.tracking.registry import register
from headwise.tracking.run import Run
from headwise.training.checkpoints import extract
from headwise.training.fit import Fitted
from headwise.training.runs import RunFolder, first_process, run_folder
from headwise_pipelines.card import describe
from headwise_pipelines.start import MODEL, Matching, Start, begin

RUNTIME = ("onnxruntime", "numpy", "msgspec")  # what it takes to use a model folder
DESCRIBED = "described"  # there once the tracker knows configuration and data
SCRAPS = (".export-*", f".{MODEL}.*")
TOOLS = ("torch", "pytorch-lightning", "onnx", "onnxscript", "onnxruntime", "mlflow")


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        number: from 1.
        folder: where the sweep keeps its trials.
    """

    number: int
    folder: Path


@dataclass(frozen=True)
class Order:
    """What the user asked for.

    Attributes:
        product: "recsys" or "speech"; the MLflow experiment.
        preset: the run that it started from.
        config: the whole configuration, as plain values.
        data: the raw data.
        name: under which the model is registered.
        work: where prepared data and runs are kept.
        start: the run whose weights it starts from, None for fresh ones.
        trial: which one of a sweep it is, None for a run of its own.
    """

    product: Literal["recsys", "speech"]
    preset: str
    config: Mapping[str, Any]
    data: Path
    name: str
    work: Path
    start: Start | None = None
    trial: Trial | None = None

    @property
    def runs(self) -> Path:
        """The folder of all runs of its kind."""
        return self.work / "runs" if self.trial is None else self.trial.folder

    @property
    def title(self) -> str:
        """What the run is called in the tracker."""
        return self.preset if self.trial is None else f"trial {self.trial.number}"

    @property
    def origin(self) -> dict[str, Any]:
        """What the run starts from; nothing where it starts afresh, so that such a run is named as it always was."""
        return {} if self.start is None else self.start.plain


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        product: "recsys" or "speech".
        preset: the run that it started from.
        run: its id in MLflow.
        where: a line that says where to look at it.
        metrics: test figures of the model.
        baselines: the same figures of what costs nothing to build.
        folder: the model folder.
        name: under which the model is registered.
        version: its version there, None without MLflow.
        champion: whether it is the champion now.
        reason: why, or why not.
        seconds: spent in training.
        epochs: trained.
        chosen: the epoch whose weights were kept.
    """

    product: str
    preset: str
    run: str
    where: str
    metrics: Mapping[str, float]
    baselines: Mapping[str, Mapping[str, float]]
    folder: str
    name: str
    version: int | None
    champion: bool
    reason: str
    seconds: float
    epochs: int
    chosen: int

    @property
    def model(self) -> str:
        """What to call the model in other commands: its version in the registry, its folder where there is none."""
        return f"models:/{self.name}/{self.version}" if self.version else self.folder

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Launched:
    """An open run: its folder, its tracker, and what is said at its end."""

    order: Order
    data: DataFacts
    folder: RunFolder
    run: Run | LocalRun

    @property
    def model(self) -> Path:
        """The model folder, in the run's own."""
        return self.folder.path / MODEL

    @property
    def exported(self) -> ModelCard | None:
        """The card of the model that an earlier process of this run exported before it was stopped.

        It is kept: exported again, the same model would be another one to the registry, by the time in its card.
        """
        try:
            return read_card(self.model)
        except InputError:
            return None

    def begin(self, model: nn.Module, rows: Matching) -> None:
        """Gives a new model the weights of the run that the order starts from, if it names one.

        Args:
            model: with fresh weights.
            rows: how its tables are matched with those of the earlier run.
        """
        order = self.order
        if order.start is not None:
            begin(order.start, model, rows, folder=self.folder.path, run=self.run, settings=order.config["model"])

    def card(self, kind: str, settings: Mapping[str, Any], metrics: Mapping[str, float]) -> ModelCard:
        """The model card, but for the proof that export adds."""
        return ModelCard(
            kind=kind,
            name=f"{self.order.preset} on {self.data.name}",
            settings=settings,
            provenance={
                "run": self.run.id,
                "product": self.order.product,
                "preset": self.order.preset,
                "config": self.order.config,
                **self._origin(),
                "data": asdict(self.data),
                "commit": git_commit(),
                "versions": {"headwise": __version__} | {tool: _version(tool) for tool in TOOLS},
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
            },
            metrics=metrics,
            parity={},
        )

    def _origin(self) -> dict[str, Any]:
        start = self.order.start
        return {} if start is None else {"start": {"run": start.run, "name": start.name, "frozen": start.freeze}}

    def _keep_weights(self, best: Path) -> None:
        # For those who start from this run where its folder is not.
        with TemporaryDirectory(prefix="headwise-") as scratch:
            extract(best, Path(scratch) / WEIGHTS)
            self.run.artifact(Path(scratch) / WEIGHTS)

    def finish(
        self,
        fitted: Fitted,
        card: ModelCard,
        example: Mapping[str, np.ndarray],
        *,
        baselines: Mapping[str, Mapping[str, float]],
        evidence: Evidence,
        mode: Literal["min", "max"],
    ) -> Outcome:
        """Registers the model and promotes it if it is shown to be better than the champion.

        Args:
            fitted: what training came to.
            card: as written into the model folder.
            example: one input of the graph, by name.
            baselines: test metrics of what costs nothing to build.
            evidence: what the model was worth on each test case, by the metric that the champion is chosen by.
            mode: whether a better one is lower or higher.
        """
        test = {f"test/{key}": value for key, value in card.metrics.items()}
        self.run.metrics(test, step=0)
        for name, values in baselines.items():
            self.run.metrics({f"baseline/{name}/{key}": value for key, value in values.items()}, step=0)
        evidence.keep(self.run)
        made, decision = None, "there is no registry without MLflow"
        promoted = False
        text = describe(card, baselines)
        self.run.text("model_card.md", text)
        self.run.tag("mlflow.note.content", text)  # the description on the run's page
        if isinstance(self.run, Run):
            self._keep_weights(fitted.best)
            made = register(
                self.run,
                self.model,
                self.order.name,
                example=example,
                requirements=[f"{name}=={_version(name)}" for name in RUNTIME],
                description=text,
                metrics=test,
                data=self.data.fingerprint,
            )
            verdict = promote(self.order.name, made, metric=f"test/{evidence.metric}", mode=mode)
            promoted, decision = verdict.promoted, verdict.reason
        return Outcome(
            product=self.order.product,
            preset=self.order.preset,
            run=self.run.id,
            where=self.run.where,
            metrics=card.metrics,
            baselines=baselines,
            folder=str(self.model),
            name=self.order.name,
            version=made,
            champion=promoted,
            reason=decision,
            seconds=fitted.seconds,
            epochs=fitted.epochs_run,
            chosen=fitted.epoch,
        )


@contextmanager
def launch(order: Order, data: DataFacts) -> Iterator[Launched]:
    """An open run for an order: the unfinished one of the same configuration and data, or a new one.

    Of several processes of a training the first opens it; the others follow with a run that nobody reads.

    Args:
        order: what the user asked for.
        data: what it is trained on, as the tracker describes it.

    Raises:
        InputError: another process is training the same.
    """
    identity = {"config": order.config, "data": data.fingerprint, "name": order.name, **order.origin}
    if order.trial is not None:
        identity["trial"] = order.trial.number
    with run_folder(order.runs, f"{order.product}-{order.preset}", identity) as folder:
        tags = {
            "product": order.product,
            "preset": order.preset,
            "data": data.name,
            "git commit": git_commit() or "none",
            "headwise": __version__,
        }
        if order.start is not None:
            tags |= {"init from": order.start.run, "freeze": str(order.start.freeze).lower()}
        if order.trial is not None:
            tags["trial"] = str(order.trial.number)
        if not first_process():
            with TemporaryDirectory() as scratch, LocalRun(order.product, order.title, Path(scratch)) as unread:
                yield Launched(order, data, folder, unread)
            return
        with open_run(order.product, order.title, folder.path, tags=tags, resume=folder.tracker) as run:
            folder.tracked_by(run.id)
            say(f"{'continued' if folder.resumed else 'new'} run {run.id} in {folder.path}")
            _sweep(folder.path)
            _describe(run, order, data, folder.path / DESCRIBED)
            yield Launched(order, data, folder, run)
        folder.finish()  # once the tracker knows of the end, too: until then the same command continues this run


def _describe(run: Run | LocalRun, order: Order, data: DataFacts, mark: Path) -> None:
    # A process that was stopped before the mark leaves it to the next one; to the tracker the same again is nothing new.
    if mark.is_file():
        return
    run.config(
        {"product": order.product, "preset": order.preset, "data": str(order.data), **order.origin, **order.config}
    )
    run.dataset(data)
    mark.touch()


def _sweep(folder: Path) -> None:
    # What a process that was killed while it exported left half written; the folder is ours alone.
    for pattern in SCRAPS:
        for scrap in folder.glob(pattern):
            shutil.rmtree(scrap, ignore_errors=True)


def curves(fitted: Fitted, valid: Sequence[str], title: str) -> Any:
    """The figure of learning curves."""
    return learning_curves(fitted.history, train="train/loss", valid=valid, best=fitted.epoch, title=title)


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def existing(data: Path | None, preset: str) -> Path:
    """The path of the raw data, which must exist.

    Raises:
        InputError: it was not given, or is not there.
    """
    if data is None:
        raise InputError(f"--data is missing: give the file or folder with the raw data of {preset}")
    if not data.exists():
        raise InputError(f"{data}: there is no such file or folder; give the raw data with --data")
    return data


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
