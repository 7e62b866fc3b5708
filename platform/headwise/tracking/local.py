"""A run kept in plain files, for machines without MLflow."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self
from uuid import uuid4

from headwise.files import replacing
from headwise.tracking.describe import DataFacts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREFIX = "local-"  # how the id of such a run begins


class LocalRun:
    """The same run as `Run`, in its folder: config.json, metrics.jsonl, dataset.json, figures/, and status.json at the end."""

    def __init__(
        self, product: str, name: str, folder: Path, *, tags: Mapping[str, str] | None = None, resume: str = ""
    ) -> None:
        self.product, self.name, self.folder = product, name, folder
        self.id = resume or f"{PREFIX}{uuid4().hex[:12]}"
        self.experiment = product
        self._tags = dict(tags or {})
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = (self.folder / "metrics.jsonl").open("a", encoding="utf-8")
        self._status("RUNNING")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()
        if kind is None:
            self._status("FINISHED")
        else:
            self._status("KILLED" if issubclass(kind, KeyboardInterrupt | SystemExit) else "FAILED")

    @property
    def where(self) -> str:
        """Where to look at this run."""
        return str(self.folder)

    def config(self, config: Mapping[str, Any]) -> None:
        """Keep a configuration as `config.json`."""
        self.text("config.json", json.dumps(config, indent=2, default=str, ensure_ascii=False) + "\n")

    def dataset(self, data: DataFacts, context: str = "training") -> None:
        """Keep what is known of a dataset as `dataset.json`."""
        self.text("dataset.json", json.dumps(asdict(data) | {"context": context}, indent=2, ensure_ascii=False) + "\n")

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Append a line to `metrics.jsonl`."""
        assert self._file is not None, "the run is not open"
        line = {"step": step, "time": round(time.time(), 3)} | {name: float(value) for name, value in values.items()}
        self._file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        """Hand what waits to the disk."""
        assert self._file is not None, "the run is not open"
        self._file.flush()

    def figure(self, name: str, figure: "Figure") -> None:
        """Keep a figure as `figures/<name>.png`."""
        with replacing(self.folder / f"figures/{name}.png") as draft:
            figure.savefig(draft, format="png")

    def text(self, name: str, text: str) -> None:
        """Keep a text under a file name."""
        with replacing(self.folder / name) as draft:
            draft.write_text(text, encoding="utf-8")

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file, or a folder with all that is in it."""
        with replacing(self.folder / (folder or path.name) / ("" if path.is_dir() else path.name)) as draft:
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, draft)

    def tag(self, name: str, value: str) -> None:
        """Set a tag of the run."""
        self._tags[name] = value
        self._status("RUNNING")

    def _status(self, status: str) -> None:
        facts = {"id": self.id, "product": self.product, "name": self.name, "status": status, "tags": self._tags}
        self.text("status.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
