"""The run that another one starts from: found by whatever names it, and given to a new model."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from headwise.errors import InputError, NotFound
from headwise.files import replacing
from headwise.model_folder import CARD, ModelCard, read_card
from headwise.tracking.earlier import run_of, weights_of
from headwise.tracking.local import LocalRun
from headwise.tracking.registry import fetch
from headwise.tracking.run import Run
from headwise.training.checkpoints import load
from headwise.training.initialise import Report, Rows, freeze, initialise
from headwise.training.progress import say
from headwise.training.runs import RECORD, find_run, read_record

BEST, LAST = Path("checkpoints/best.ckpt"), Path("checkpoints/last.ckpt")
MODEL = "model"  # the model folder in a run's folder
INITIALISED = "initialised.json"  # in the run's folder and in the tracker
PREFIX = "model."  # what a task calls its model

Matching = Callable[["Start"], Mapping[str, Rows]]


@dataclass(frozen=True, eq=False)
class Start:
    """An earlier run, as far as a new one starts from it.

    Attributes:
        run: its id.
        name: preset and data, for people.
        settings: of its model.
        tables: its model folder, which says what the rows of its tables stand for.
        weights: of its kept checkpoint, by their names in the model.
        freeze: whether what is taken into the blocks stays as it is.
    """

    run: str
    name: str
    settings: Mapping[str, Any]
    tables: Path
    weights: Mapping[str, Tensor]
    freeze: bool

    @property
    def plain(self) -> dict[str, Any]:
        """What makes a run with this start another run than one without."""
        return {"init_from": self.run, "freeze": self.freeze}


def start_from(reference: str, product: str, *, freeze: bool, work: Path) -> Start:
    """An earlier run of the same product.

    Args:
        reference: an MLflow run id, `runs:/id`, `models:/name/version`, `models:/name@alias`, a model folder, a run's folder, or
            the name of one in `work`.
        product: "recsys" or "speech".
        freeze: whether what is taken into the blocks stays as it is.
        work: where runs are kept, and models that are fetched.

    Raises:
        NotFound: there is no such run, or its weights are nowhere.
        InputError: it is of another product, or has made no model yet.
    """
    folder, run = _locate(reference, work)
    tables = fetch(f"runs:/{run}", work / "models") if folder is None else folder / MODEL
    if not (tables / CARD).is_file():
        raise InputError(f"{folder}: this run has made no model yet; let the command that began it come to its end")
    card = read_card(tables)
    made = card.provenance.get("product")
    if made != product:
        raise InputError(f"--init-from {reference}: this run is of {made}, not of {product}")
    kept = _download(run) if folder is None else load(folder / BEST)["state_dict"]
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in kept.items()}
    return Start(run or str(folder), card.name, card.provenance["config"]["model"], tables, weights, freeze)


def begin(
    start: Start, model: nn.Module, rows: Matching, *, folder: Path, run: Run | LocalRun, settings: Mapping[str, Any]
) -> None:
    """Give a new model the weights that it starts from, say what was taken, and freeze what shall not be trained.

    A run that has trained since gets its weights from its own checkpoint.

    Args:
        start: the earlier run.
        model: with fresh weights.
        rows: how its tables are matched with those of the earlier run.
        folder: the new run's.
        run: the new run.
        settings: of the new model.
    """
    path = folder / INITIALISED
    if path.is_file() and (folder / LAST).is_file():
        report = Report.read(json.loads(path.read_text(encoding="utf-8")))
        say(f"began with {start.name}, run {start.run}; trained since")
    else:
        report = initialise(model, start.weights, rows(start))
        text = "\n".join([f"starts from {start.name}, run {start.run}", str(report), *_differences(start, settings)])
        plain = json.dumps(start.plain | {"name": start.name} | report.plain(), indent=2, ensure_ascii=False) + "\n"
        say(text)
        run.text("initialised.txt", text + "\n")
        run.text(INITIALISED, plain)
        with replacing(path) as draft:
            draft.write_text(plain, encoding="utf-8")
    if start.freeze:
        freeze(model, report)


def _locate(reference: str, work: Path) -> tuple[Path | None, str]:
    path = Path(reference)
    if (path / RECORD).is_file():
        return path, read_record(path).tracker
    if (path / CARD).is_file():
        return _owner(read_card(path), work)
    if path.is_dir():
        raise InputError(f"--init-from {reference}: neither a run's folder, with {RECORD}, nor a model's, with {CARD}")
    return _known(run_of(reference) if ":" in reference else reference, work)


def _owner(card: ModelCard, work: Path) -> tuple[Path | None, str]:
    return _known(str(card.provenance["run"]), work)


def _known(run: str, work: Path) -> tuple[Path | None, str]:
    # A folder of this machine spares the download; where it is gone, the tracker has what is needed.
    try:
        folder, record = find_run(work / "runs", run)
    except NotFound:
        return None, run
    return (folder, record.tracker) if (folder / BEST).is_file() else (None, run)


def _download(run: str) -> Mapping[str, Tensor]:
    with TemporaryDirectory(prefix="headwise-") as scratch:
        weights: Mapping[str, Tensor] = load(weights_of(run, Path(scratch)))["state_dict"]
    return weights


def _differences(start: Start, settings: Mapping[str, Any]) -> Iterator[str]:
    # Shapes do not tell of heads or rotary positions: weights that fit may yet mean something else.
    for name, value in settings.items():
        if name != "dropout" and name in start.settings and start.settings[name] != value:
            yield f"differs  model.{name} is {value}, in the earlier run {start.settings[name]}"
