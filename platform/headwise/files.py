"""Files that appear whole or not at all, and fingerprints of what they hold."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`, a file or a folder, that takes its place when the block ends without an error.

    Example:
        with replacing(folder / "model.json") as path:
            path.write_text(text)

    Raises:
        OSError: whatever writing raised, for instance a full disk; `target` is then as it was and nothing is left beside it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}-{uuid4().hex[:8]}")
    try:
        yield draft
        if draft.is_dir():
            _swap_folder(draft, target)
        else:
            draft.replace(target)
    finally:
        _remove(draft)


def fingerprint(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and bytes of files, in the order given, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        digest.update(sha256(path).encode())
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of one file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _swap_folder(draft: Path, target: Path) -> None:
    # A folder cannot replace a non-empty one in one system call: the old one steps aside first and goes last.
    old = target.with_name(f"{draft.name}.old")
    if target.exists():
        target.rename(old)
    try:
        draft.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
