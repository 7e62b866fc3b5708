"""A corpus on disk to prepared speech: every recording decoded once, 16 kHz mono int16, in one memory-mapped file."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from headwise.errors import InputError
from headwise.files import sha256
from headwise_speech.audio import SAMPLE_RATE, decode
from headwise_speech.readers import Entry, read
from headwise_speech.utterances import Utterances, load, quantise, write

_FORMAT = 1  # raised when the same source would be prepared into other bytes


def prepare(path: Path, folder: Path) -> Utterances:
    """Prepared speech of the corpus at `path`: read again only where its content has changed.

    Content is the texts, splits and bytes of every audio file.

    Args:
        path: what `readers.read` reads.
        folder: where prepared data are kept; the result lies in `folder/<name>-<fingerprint>`, whole or not at all.

    Raises:
        NotFound: there is nothing at `path`.
        InputError: lines or recordings cannot be used: the first is named, the others counted.
    """
    entries = read(path)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        files = progress.track([entry.audio for entry in entries], description="Fingerprint")
        mark = _fingerprint(entries, [sha256(file) for file in files])
        source = path.resolve()
        name = source.stem if source.is_file() else source.name
        target = folder / f"{name}-{mark[:12]}"
        with suppress(InputError):  # not prepared yet, or damaged since
            return load(target)
        audio = _recordings(progress.track(entries, description="Prepare"))
        facts = {"name": name, "fingerprint": mark, "source": str(source)}
        rows = [{"id": e.id, "text": e.text, "speaker": e.speaker, "split": e.split} for e in entries]
        write(target, audio, rows, facts, sample_rate=SAMPLE_RATE)
    return load(target)


def _fingerprint(entries: Sequence[Entry], sums: Sequence[str]) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {SAMPLE_RATE}".encode())
    for entry, sum_ in zip(entries, sums, strict=True):
        digest.update(repr((entry.id, entry.text, entry.speaker, entry.split, sum_)).encode())
    return digest.hexdigest()


def _recordings(entries: Iterable[Entry]) -> Iterator[npt.NDArray[np.int16]]:
    problems = []
    for entry in entries:
        try:
            samples = quantise(decode(entry.audio))
        except InputError as problem:
            problems.append(problem)
        else:
            if not problems:
                yield samples
    if problems:
        more = f" (and {len(problems) - 1} more recordings cannot be used)" if len(problems) > 1 else ""
        raise InputError(f"{problems[0]}{more}")
