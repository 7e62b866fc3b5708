"""Commands run in a working directory of their own, and one whole run of the recommender that all tests look at."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from headwise.tracking.connection import answered, connect
from headwise_pipelines.command import main
from headwise_recsys import shopping

USERS, ITEMS, EVENTS = 211, 101, 23
WINDOW = 17  # shorter than most histories
TINY = {
    "model.width": 14,
    "model.window": WINDOW,
    "model.blocks": 1,
    "tokens": 307,
    "optimizer.warmup": 5,
    "fit.epochs": 3,
    "fit.threads": 1,
}


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.splitlines()[-1])

    @property
    def refusal(self) -> str:
        """The one message for a person, where there is nothing else."""
        assert self.out == ""
        [line] = self.err.splitlines()
        return line.removeprefix("headwise: ")


@dataclass(frozen=True)
class Place:
    """A working directory with an MLflow store of its own."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The store, and the machine looked at so often that even a run of seconds holds its figures."""
        return {
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlflow.db'}",
            "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1",
            "MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING": "1",
        }

    @contextmanager
    def entered(self) -> Iterator[Any]:
        """Work there; gives MLflow's client."""
        with chdir(self.folder), pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            with answered():
                client = connect().MlflowClient()
            yield client

    def run(self, *arguments: object) -> Said:
        """One command line."""
        out, err = StringIO(), StringIO()
        with self.entered(), redirect_stdout(out), redirect_stderr(err):
            try:
                code = main([str(argument) for argument in arguments])
            except SystemExit as end:
                code = int(end.code or 0)
        return Said(code, out.getvalue(), err.getvalue())

    def files(self) -> set[str]:
        """All that lies there but the store, which MLflow writes as it pleases."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return {str(path) for path in found if path.parts[0] not in ("mlflow.db", "mlruns")}


@dataclass(frozen=True)
class Chain:
    """A finished run: where, by which command line, and what it answered."""

    place: Place
    data: Path
    arguments: tuple[str, ...]
    outcome: dict[str, Any]
    err: str

    @property
    def model(self) -> Path:
        return self.place.folder / self.outcome["folder"]


def flags(values: dict[str, object]) -> tuple[str, ...]:
    return tuple(f"--{name}={value}" for name, value in values.items())


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables made, which takes seconds once."""
    path = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        with answered():
            connect().MlflowClient().search_experiments()
    return path


def place_in(folder: Path, migrated: Path) -> Place:
    shutil.copyfile(migrated, folder / "mlflow.db")
    return Place(folder)


@pytest.fixture(scope="session")
def new_place(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Callable[[], Place]:
    """Makes working directories that outlive a test."""
    return lambda: place_in(tmp_path_factory.mktemp("place"), migrated)


@pytest.fixture
def place(tmp_path: Path, migrated: Path) -> Place:
    return place_in(tmp_path, migrated)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated shopping histories."""
    folder = tmp_path_factory.mktemp("data") / "shop"
    shopping.write(folder, users=USERS, items=ITEMS, events=EVENTS)
    return folder


@pytest.fixture(scope="session")
def chain(migrated: Path) -> Any:
    """Makes a whole run in a folder."""

    def chain(folder: Path, words: tuple[str, ...], data: Path, values: dict[str, object]) -> Chain:
        place = place_in(folder, migrated)
        arguments = (*words, "--data", str(data), *flags(values), "--json")
        said = place.run(*arguments)
        assert said.code == 0, said.err
        return Chain(place, data, arguments, said.json, said.err)

    return chain


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, chain: Any, shop: Path) -> Any:
    """The recommender's whole run, never stopped."""
    return chain(tmp_path_factory.mktemp("recommender"), ("train", "recsys", "shopping"), shop, TINY)


@pytest.fixture(scope="session", autouse=True)
def frugal() -> None:
    """For the processes that tests start."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
