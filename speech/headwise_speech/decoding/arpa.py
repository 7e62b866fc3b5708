"""ARPA files, the text format of n-gram language models (as SRILM and KenLM read and write it)."""

import gzip
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from headwise.errors import InputError, NotFound
from headwise.files import replacing
from headwise_speech.decoding.ngram import Logs, NGram, Rows, WrongGram

_GZIP = b"\x1f\x8b"
_NEVER = -99.0  # what stands for the logarithm of 0


def read_arpa(path: Path) -> NGram:
    """The language model in an ARPA file, plain or gzipped whatever its name is.

    Raises:
        NotFound: there is no such file.
        InputError: it is not an ARPA file; the message names the line.
    """
    if not path.is_file():
        raise NotFound(f"{path}: no such language model")
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        try:
            with io.TextIOWrapper(gzip.GzipFile(fileobj=raw) if packed else raw, "utf-8") as text:
                return _model(_Lines(path, text))
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text ({error}); fetch or write it again") from error


def write_arpa(model: NGram, path: Path) -> None:
    """Writes a language model, gzipped where the name ends in .gz; read again it is the same, bit for bit."""
    with replacing(path) as draft, _writing(draft, path.suffix == ".gz") as file:
        file.write("\\data\\\n")
        for order in range(1, model.order + 1):
            file.write(f"ngram {order}={model.firsts[order] - model.firsts[order - 1]}\n")
        for order in range(1, model.order + 1):
            file.write(f"\n\\{order}-grams:\n")
            rows, log_probs, backoffs = model.table(order)
            for row, log_prob, backoff in zip(rows.tolist(), log_probs, backoffs, strict=True):
                gram = " ".join(model.words[word] for word in row)
                # The shortest text of a single-precision number is the same number when read.
                file.write(f"{log_prob!s}\t{gram}\t{backoff!s}\n" if backoff else f"{log_prob!s}\t{gram}\n")
        file.write("\n\\end\\\n")


@contextmanager
def _writing(path: Path, packed: bool) -> Iterator[IO[str]]:
    if not packed:
        with path.open("w", encoding="utf-8") as file:
            yield file
        return
    # Without name and time the same model gives the same bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packer:
        text = io.TextIOWrapper(packer, "utf-8")
        yield text
        text.flush()


class _Lines:
    """The lines of a file, blank ones left out, with what is needed to say what is wrong with one."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        self._path, self._file = path, file
        self.number = 0

    def next(self) -> str:
        for line in self._file:
            self.number += 1
            if line := line.strip():
                return line
        self.number += 1
        return ""

    def wrong(self, what: str, number: int | None = None) -> InputError:
        return InputError(f"{self._path}, line {number or self.number}: {what}; write the language model again")


def _model(lines: _Lines) -> NGram:
    counts = _header(lines)
    words: dict[str, int] = {}
    tables: list[tuple[Rows, Logs, Logs]] = []
    places: list[list[int]] = []
    for order, count in enumerate(counts, 1):
        table, at = _section(lines, order, count, words, longest=order == len(counts))
        tables.append(table)
        places.append(at)
    if (end := lines.next()) != "\\end\\":
        raise lines.wrong(
            f"'{end[:40]}' where \\end\\ should stand, after {len(counts)}-grams as the header counts them"
        )
    rows, log_probs, backoffs = zip(*tables, strict=True)
    try:
        return NGram(list(words), rows, log_probs, backoffs)
    except WrongGram as error:
        raise lines.wrong(str(error), places[error.order - 1][error.row]) from error


def _header(lines: _Lines) -> list[int]:
    while (line := lines.next()) != "\\data\\":
        if not line:
            raise lines.wrong("the file ends, and no line of it is \\data\\")
    counts: list[int] = []
    while match := re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)", line := lines.next()):
        if int(match[1]) != len(counts) + 1:
            raise lines.wrong(f"'{line}' where the number of {len(counts) + 1}-grams should stand")
        counts.append(int(match[2]))
    if not counts:
        raise lines.wrong(f"'{line[:40]}' where 'ngram 1=' and a number should stand")
    if line != "\\1-grams:":
        raise lines.wrong(f"'{line[:40]}' where \\1-grams: should stand")
    return counts


def _section(
    lines: _Lines, order: int, count: int, words: dict[str, int], *, longest: bool
) -> tuple[tuple[Rows, Logs, Logs], list[int]]:
    if order > 1 and (line := lines.next()) != f"\\{order}-grams:":
        raise lines.wrong(f"'{line[:40]}' where \\{order}-grams: should stand, as the header counts {order - 1}-grams")
    rows = np.empty((count, order), np.int64)
    logs = np.empty((2, count), np.float32)  # probabilities, back-offs
    places = []
    for at in range(count):
        fields = lines.next().split()
        places.append(lines.number)
        gram, line = fields[1 : order + 1], " ".join(fields)[:60]
        if len(gram) < order or len(fields) > order + 2 - longest:
            raise lines.wrong(f"'{line}' is no {order}-gram, of which the header counts {count}")
        if order == 1 and words.setdefault(gram[0], at) != at:
            raise lines.wrong(f"'{gram[0]}' stands there twice")
        try:
            logs[:, at] = _log_prob(fields[0]), float(fields[-1]) if len(fields) > order + 1 else 0.0
            rows[at] = [words[word] for word in gram]
        except KeyError as error:
            raise lines.wrong(f"'{error.args[0]}' is not among the 1-grams") from error
        except ValueError as error:
            raise lines.wrong(f"'{line}' has no logarithm of a probability where one should stand") from error
    return (rows, logs[0], logs[1]), places


def _log_prob(field: str) -> float:
    log = float(field)
    if not log <= 0:
        raise ValueError(field)
    return max(log, _NEVER)
