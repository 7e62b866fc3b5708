"""What every training does around the training itself, whichever product it is of."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headwise import __version__
from headwise.errors import InputError
from headwise.model_folder import ModelCard
from headwise.tracking.describe import DataFacts, git_commit
from headwise.tracking.figures import learning_curves
from headwise.tracking.local import LocalRun
from headwise.tracking.opening import open_run
from headwise.tracking.promotion import promote
from headwise.tracking.registry import register
from headwise.tracking.run import Run
from headwise.training.fit import Fitted
from headwise.training.runs import RunFolder, run_folder
from headwise_pipelines.card import describe

RUNTIME = ("onnxruntime", "numpy", "msgspec")  # what it takes to use a model folder
TOOLS = ("torch", "pytorch-lightning", "onnx", "onnxscript", "onnxruntime", "mlflow")


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
    """

    product: Literal["recsys", "speech"]
    preset: str
    config: Mapping[str, Any]
    data: Path
    name: str
    work: Path


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

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass
class Launched:
    """An open run: its folder, its tracker, and what is said at its end."""

    order: Order
    data: DataFacts
    folder: RunFolder
    run: Run | LocalRun
    _published: dict[str, Any] = field(default_factory=dict)

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
                "data": asdict(self.data),
                "commit": git_commit(),
                "versions": {"headwise": __version__} | {tool: _version(tool) for tool in TOOLS},
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
            },
            metrics=metrics,
            parity={},
        )

    def finish(
        self,
        fitted: Fitted,
        card: ModelCard,
        model: Path,
        example: Mapping[str, np.ndarray],
        *,
        baselines: Mapping[str, Mapping[str, float]],
        metric: str,
        mode: Literal["min", "max"],
    ) -> Outcome:
        """Registers the model and promotes it if it is better than the champion; closes the run's folder.

        Args:
            fitted: what training came to.
            card: as written into the model folder.
            model: the model folder.
            example: one input of the graph, by name.
            baselines: test metrics of what costs nothing to build.
            metric: by which the champion is chosen.
            mode: whether a better one is lower or higher.
        """
        test = {f"test/{key}": value for key, value in card.metrics.items()}
        self.run.metrics(test, step=0)
        for name, values in baselines.items():
            self.run.metrics({f"baseline/{name}/{key}": value for key, value in values.items()}, step=0)
        made, decision = None, "there is no registry without MLflow"
        promoted = False
        text = describe(card, baselines)
        self.run.text("model_card.md", text)
        if isinstance(self.run, Run):
            made = register(
                self.run,
                model,
                self.order.name,
                example=example,
                requirements=[f"{name}=={_version(name)}" for name in RUNTIME],
                description=text,
                metrics=test,
                data=self.data.fingerprint,
            )
            verdict = promote(self.order.name, made, metric=f"test/{metric}", mode=mode)
            promoted, decision = verdict.promoted, verdict.reason
        self.folder.finish()
        return Outcome(
            product=self.order.product,
            preset=self.order.preset,
            run=self.run.id,
            where=self.run.where,
            metrics=card.metrics,
            baselines=baselines,
            folder=str(model),
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

    Args:
        order: what the user asked for.
        data: what it is trained on, as the tracker describes it.

    Raises:
        InputError: another process is training the same.
    """
    identity = {"config": order.config, "data": data.fingerprint, "name": order.name}
    with run_folder(order.work / "runs", f"{order.product}-{order.preset}", identity) as folder:
        tags = {
            "product": order.product,
            "preset": order.preset,
            "data": data.name,
            "git commit": git_commit() or "none",
            "headwise": __version__,
        }
        with open_run(order.product, order.preset, folder.path, tags=tags, resume=folder.tracker) as run:
            folder.tracked_by(run.id)
            say(f"{'continued' if folder.resumed else 'new'} run {run.id} in {folder.path}")
            if not folder.resumed:
                run.config({"product": order.product, "preset": order.preset, "data": str(order.data), **order.config})
                run.dataset(data)
            yield Launched(order, data, folder, run)


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
