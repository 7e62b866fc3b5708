"""What a run says about itself in words that any tracker can keep."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DataFacts:
    """A dataset as a tracker knows it: never the data itself."""

    name: str
    fingerprint: str  # SHA-256, 64 hexadecimal digits
    source: str  # where it was read from
    schema: Mapping[str, str] = field(default_factory=dict)  # column -> string, long, double, datetime, binary
    profile: Mapping[str, Any] = field(default_factory=dict)  # users, items, events; utterances, seconds


def flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested configuration as dotted names and text: `model.width`, `128`."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flattened(value, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def metric_name(name: str) -> str:
    """A metric's name in MLflow's alphabet: `test/ndcg@10` is kept as `test/ndcg_at_10`."""
    return re.sub(r"[^\w\-./: ]", "_", name.replace("@", "_at_"))


def git_commit(folder: Path = Path()) -> str:
    """The commit of the repository around a folder, with `+` when files differ from it; empty outside a repository."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return run.stdout.strip()
