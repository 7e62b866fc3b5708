"""The folder that a run lives in, and the rule by which one is continued.

    .headwise/runs/<name>-<hash of the configuration>[-n]/
        run.json        name, configuration hash, the tracker's run, state: "running" or "finished"
        lock            held by the process that trains here
        checkpoints/    last.ckpt and best.ckpt, see fit.py

A folder that is not finished is continued; when all are finished, the same command makes a new run.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import IO, Any, Literal

from headwise.errors import InputError, NotFound
from headwise.files import replacing

RUNS = Path(".headwise/runs")
RECORD = "run.json"
PATIENCE = 60.0  # seconds that the other processes of a distributed run wait for the first one to choose the folder


@dataclass(frozen=True)
class Record:
    """What `run.json` says."""

    name: str
    config: str  # hash of the configuration
    tracker: str = ""  # the tracker's run, empty until it is opened
    state: Literal["running", "finished"] = "running"


class RunFolder:
    """One run's folder, locked for this process while it is open."""

    def __init__(self, path: Path, record: Record, resumed: bool) -> None:
        self.path, self.record, self.resumed = path, record, resumed

    @property
    def tracker(self) -> str:
        """The tracker's run that this folder belongs to, empty when there is none yet."""
        return self.record.tracker

    def tracked_by(self, run: str) -> None:
        """Remember the tracker's run, so that a resumed process continues it."""
        self._write(replace(self.record, tracker=run))

    def finish(self) -> None:
        """Nothing is left to do here: the same command now makes a new run."""
        self._write(replace(self.record, state="finished"))

    def _write(self, record: Record) -> None:
        self.record = record
        _write(self.path, record)


@contextmanager
def run_folder(root: Path, name: str, config: Mapping[str, Any]) -> Iterator[RunFolder]:
    """Open the unfinished run of this name and configuration, or a new one, for this process alone.

    The lock belongs to the process and ends with it, however it ends. Under torchrun the first process chooses and locks;
    the others follow it.

    Args:
        root: the folder of all runs, usually `RUNS`.
        name: of the preset.
        config: everything that decides what the run computes; plain values.

    Raises:
        InputError: another process is training in the folder.
    """
    stem = f"{name}-{config_hash(config)}"
    if not first_process():
        yield _follow(root, stem)
        return
    path = _unfinished(root, stem) or _unused(root, stem)
    resumed = path.is_dir()
    path.mkdir(parents=True, exist_ok=True)
    with _lock(path):
        record = read_record(path) if (path / RECORD).is_file() else Record(name, config_hash(config))
        _write(path, record)
        yield RunFolder(path, record, resumed)


def first_process() -> bool:
    """Whether this process is the only one of its training, or the first: the one that writes, tracks and goes on to the end."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def find_run(root: Path, name: str) -> tuple[Path, Record]:
    """A run by the name of its folder or by its tracker's id, finished or not.

    Raises:
        NotFound: no such run; the message lists those there are.
    """
    runs = {path.parent.name: path.parent for path in sorted(root.glob(f"*/{RECORD}"))}
    for folder, path in runs.items():
        record = read_record(path)
        if name in (folder, record.tracker):
            return path, record
    raise NotFound(f"{root}: no run {name!r}; there are: {', '.join(runs) or 'none'}")


def read_record(folder: Path) -> Record:
    """What a run's folder says of itself.

    Raises:
        InputError: its record cannot be read.
    """
    path = folder / RECORD
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); remove {folder} to start this run again") from error


def config_hash(config: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name a configuration, whatever the order of its keys."""
    text = json.dumps(config, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _candidates(root: Path, stem: str) -> Iterator[Path]:
    yield root / stem
    for number in count(2):
        yield root / f"{stem}-{number}"


def _unfinished(root: Path, stem: str) -> Path | None:
    for path in _candidates(root, stem):
        if not path.is_dir():
            return None
        # A process killed between making the folder and its record leaves a folder to be used, not one to step around.
        if not (path / RECORD).is_file() or read_record(path).state == "running":
            return path
    raise AssertionError("candidates never end")


def _unused(root: Path, stem: str) -> Path:
    return next(path for path in _candidates(root, stem) if not path.exists())


def _follow(root: Path, stem: str) -> RunFolder:
    deadline = time.monotonic() + PATIENCE
    while (path := _unfinished(root, stem)) is None or not (path / RECORD).is_file():
        if time.monotonic() > deadline:
            raise InputError(
                f"{root / stem}: the first process of this run has not opened its folder; is it a shared disk?"
            )
        time.sleep(0.1)
    return RunFolder(path, read_record(path), resumed=True)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    # A POSIX record lock: the kernel drops it when its process dies, and a data loader's forked worker does not inherit it.
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"{folder}: process {_holder(file)} is training here; wait for it or stop it, or change the seed for another run"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "unknown"


def _write(folder: Path, record: Record) -> None:
    with replacing(folder / RECORD) as draft:
        draft.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
