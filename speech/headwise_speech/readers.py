"""Speech corpora on disk to a list of entries: AN4, FSDD, yesno, LibriSpeech trees and JSON-lines manifests.

A reader looks at names and texts; `prepare` opens the audio. Nothing is dropped: what cannot be used is an error.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, TypeAlias

from headwise.errors import InputError, NotFound
from headwise_speech.text import normalise

_HELD_OUT = 0.1  # of the utterances, where the source names no validation part
_MANY_SPEAKERS = 10  # from here on whole speakers are held out; fewer would give up a voice that is more than a tenth
_AN4_DEVELOPMENT = 100  # utterances, as Kaldi and ESPnet hold them out
_DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
_SPLITS = {"train": "train", "valid": "valid", "val": "valid", "dev": "valid", "test": "test"}
_MANIFESTS = [f"{name}.jsonl" for name in _SPLITS]
_AUDIO = (".flac", ".wav", ".ogg", ".sph", ".mp3")

_Parse: TypeAlias = "Callable[[str], Entry]"


@dataclass(frozen=True)
class Entry:
    """One utterance of a corpus."""

    id: str
    audio: Path
    text: str
    speaker: str  # "" where unknown
    split: str  # "train", "valid" or "test"


class _Unusable(Exception):
    """A line or file name that gives no entry: which kind of problem, for counting, and what exactly."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind


def read(path: Path) -> list[Entry]:
    """All utterances of a corpus in the order of the source, each in a split.

    A validation part that the source lacks is held out of its training part, and a test part too where it names no
    split at all: a tenth of the utterances, whole speakers where there are ten or more, in the order of their SHA-256
    and so the same everywhere.

    Args:
        path: a corpus folder, a folder of manifests `train.jsonl`, `valid.jsonl` (or `dev.jsonl`), `test.jsonl`, or one
            manifest. A manifest's line has audio (a path from the manifest's folder) and text, and may have id, speaker
            and split.

    Raises:
        NotFound: there is nothing at `path`.
        InputError: its layout is unknown, or lines cannot be used: the first is named and the others like it counted.
    """
    if not path.exists():
        raise NotFound(f"{path}: no such file or folder")
    entries = _reader(path)(path)
    if not entries:
        raise InputError(f"{path}: holds no utterances")
    repeated = [name for name, count in Counter(entry.id for entry in entries).items() if count > 1]
    if repeated:
        raise InputError(f"{path}: several utterances have id {repeated[0]!r}{_more(repeated, 'id')}; rename them")
    return _with_splits(entries)


def _reader(path: Path) -> Callable[[Path], list[Entry]]:
    if path.is_file():
        return _manifests
    layouts: list[tuple[Callable[[Path], list[Entry]], str]] = [
        (_an4, "etc/*_train.fileids"),
        (_yesno, "waves_yesno/*.wav"),
        (_fsdd, "recordings/*.wav"),
        *((_manifests, name) for name in _MANIFESTS),
        (_librispeech, "**/*.trans.txt"),
    ]
    for reader, pattern in layouts:
        if any(path.glob(pattern)):
            return reader
    patterns = ", ".join(pattern for _, pattern in layouts)
    raise InputError(f"{path}: no layout that is known (none of {patterns}); write a manifest train.jsonl into it")


def _an4(path: Path) -> list[Entry]:
    entries = []
    for split in ("train", "test"):
        for listing in sorted(path.glob(f"etc/*_{split}.fileids")):
            names = {name.rsplit("/", 1)[-1]: name for name in listing.read_text(encoding="utf-8").split()}
            found = _parsed([(listing.with_suffix(".transcription"), partial(_an4_entry, path, names, split))])
            _check_same(listing, names, found)
            entries += found
    train = sorted((f"{entry.speaker}-{entry.id}", entry.id) for entry in entries if entry.split == "train")
    development = {name for _, name in train[:_AN4_DEVELOPMENT]} if len(train) > _AN4_DEVELOPMENT else set()
    return [replace(entry, split="valid") if entry.id in development else entry for entry in entries]


def _an4_entry(path: Path, names: dict[str, str], split: str, line: str) -> Entry:
    match = re.fullmatch(r"(.*)\(([^()]+)\)", line)
    if not match:
        raise _Unusable("form", f"{line!r} is not 'TEXT (id)'")
    name = match[2].rsplit("/", 1)[-1]
    if name not in names:
        raise _Unusable("id", f"id {name!r} is not in the list of files beside it")
    words = [word for word in match[1].split() if not re.fullmatch(r"<.*>|\+\+.*\+\+", word)]  # <s>, <sil>, ++NOISE++
    stems = [path / folder / names[name] for folder in ("wav", "flac")]
    return Entry(name, _audio(stems), _spoken(" ".join(words)), Path(names[name]).parent.name, split)


def _check_same(listing: Path, names: Iterable[str], entries: Sequence[Entry]) -> None:
    silent = sorted(set(names) - {entry.id for entry in entries})
    if silent:
        raise InputError(f"{listing}: {silent[0]!r} has no transcription{_more(silent, 'file')}; add it or unlist it")


def _yesno(path: Path) -> list[Entry]:
    files = sorted(path.glob("waves_yesno/*.wav"))
    half = len(files) // 2
    parsers: list[tuple[Path, _Parse]] = [
        (file, partial(_yesno_entry, file, "train" if order < half else "test")) for order, file in enumerate(files)
    ]
    return _parsed_names(parsers)


def _yesno_entry(file: Path, split: str, name: str) -> Entry:
    if not re.fullmatch(r"[01](_[01])*", name):
        raise _Unusable("name", "its name is not 0s and 1s joined by _")
    return Entry(name, file, " ".join("YES" if digit == "1" else "NO" for digit in name.split("_")), "0", split)


def _fsdd(path: Path) -> list[Entry]:
    return _parsed_names([(file, partial(_fsdd_entry, file)) for file in sorted(path.glob("recordings/*.wav"))])


def _fsdd_entry(file: Path, name: str) -> Entry:
    match = re.fullmatch(r"([0-9])_(.+)_([0-9]+)", name)
    if not match:
        raise _Unusable("name", "its name is not DIGIT_SPEAKER_INDEX")
    return Entry(name, file, _DIGITS[int(match[1])], match[2], "test" if int(match[3]) < 5 else "train")


def _librispeech(path: Path) -> list[Entry]:
    files = sorted(path.rglob("*.trans.txt"))
    return _parsed([(file, partial(_librispeech_entry, file.parent, _split_of(path, file))) for file in files])


def _split_of(path: Path, file: Path) -> str:
    folders = [path.resolve().name, *file.relative_to(path).parts]
    named = [match[1] for folder in folders if (match := re.match(r"(train|dev|test)\b", folder))]
    return _SPLITS[named[-1]] if named else ""


def _librispeech_entry(folder: Path, split: str, line: str) -> Entry:
    name, _, text = line.partition(" ")
    return Entry(name, _audio([folder / name]), _spoken(text), name.split("-")[0], split)


def _manifests(path: Path) -> list[Entry]:
    files = [path] if path.is_file() else [path / name for name in _MANIFESTS if (path / name).is_file()]
    return _parsed([(file, partial(_manifest_entry, file.parent, _SPLITS.get(file.stem, ""))) for file in files])


def _manifest_entry(folder: Path, split: str, line: str) -> Entry:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise _Unusable("json", f"{line[:40]!r} is not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise _Unusable("json", f"{line[:40]!r} is not a JSON object")
    audio, text = _field(fields, "audio"), _field(fields, "text")
    split = _optional(fields, "split") or split
    if split not in {"", *_SPLITS}:
        raise _Unusable("split", f"split {split!r} is none of {', '.join(_SPLITS)}")
    if not (folder / audio).is_file():
        raise _Unusable("audio", f"audio {audio!r}: no such file in {folder}")
    name = _optional(fields, "id") or str(Path(audio).with_suffix(""))
    return Entry(name, folder / audio, _spoken(text), _optional(fields, "speaker"), _SPLITS.get(split, ""))


def _field(fields: dict[str, Any], name: str) -> str:
    if name not in fields:
        raise _Unusable(f"no {name}", f"has no field {name!r}, only {', '.join(map(repr, fields)) or 'none'}")
    if not isinstance(fields[name], str):
        raise _Unusable(name, f"{name} is {fields[name]!r}, it must be a string")
    return str(fields[name])


def _optional(fields: dict[str, Any], name: str) -> str:
    return "" if fields.get(name) is None else str(fields[name])


def _spoken(text: str) -> str:
    if not normalise(text):
        raise _Unusable("text", f"text {text!r} has no words")
    return text.strip()


def _audio(stems: Sequence[Path]) -> Path:
    for stem in stems:
        for suffix in _AUDIO:
            if (file := stem.with_name(stem.name + suffix)).is_file():
                return file
    raise _Unusable("audio", f"no such file: {' or '.join(map(str, stems))} with any of {', '.join(_AUDIO)}")


def _parsed(files: Iterable[tuple[Path, _Parse]]) -> list[Entry]:
    if missing := [file for file, _ in files if not file.is_file()]:
        raise NotFound(f"{missing[0]}: no such file")
    lines = (
        (f"{file}, line {number}", partial(_decoded, parse, line))
        for file, parse in files
        for number, line in enumerate(file.read_bytes().splitlines(), 1)
        if line.strip()
    )
    return _all_or_first_problem(lines, "line")


def _decoded(parse: _Parse, line: bytes) -> Entry:
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Unusable("encoding", f"{line[:40]!r} is not UTF-8 ({error.reason})") from error
    return parse(text.strip())


def _parsed_names(files: Iterable[tuple[Path, _Parse]]) -> list[Entry]:
    return _all_or_first_problem([(str(file), partial(parse, file.stem)) for file, parse in files], "file")


def _all_or_first_problem(parts: Iterable[tuple[str, Callable[[], Entry]]], noun: str) -> list[Entry]:
    entries, problems = [], []
    for where, parse in parts:
        try:
            entries.append(parse())
        except _Unusable as problem:
            problems.append((where, problem))
    if problems:
        where, first = problems[0]
        alike = [problem for _, problem in problems if problem.kind == first.kind]
        raise InputError(f"{where}: {first}{_more(alike, noun)}; correct or remove it")
    return entries


def _more(alike: Sequence[object], noun: str) -> str:
    others = len(alike) - 1
    return f", and {others} more such {noun}{'s' if others > 1 else ''}" if others else ""


def _with_splits(entries: Sequence[Entry]) -> list[Entry]:
    told = {entry.split for entry in entries} - {""}
    split = [replace(entry, split=entry.split or "train") for entry in entries]
    if not told:
        split = _hold_out(split, "test")
    return split if "valid" in told else _hold_out(split, "valid")


def _hold_out(entries: Sequence[Entry], part: str) -> list[Entry]:
    pool = [entry for entry in entries if entry.split == "train"]
    speakers = {entry.speaker for entry in pool}
    key = _speaker if len(speakers) >= _MANY_SPEAKERS and "" not in speakers else _id
    sizes = Counter(map(key, pool))
    wanted, held, taken = min(ceil(_HELD_OUT * len(pool)), len(pool) - 1), set(), 0
    for name in sorted(sizes, key=lambda name: hashlib.sha256(f"{part} {name}".encode()).digest()):
        if taken < wanted and taken + sizes[name] < 2 * wanted:  # a speaker of half the corpus stays
            held.add(name)
            taken += sizes[name]
    return [replace(entry, split=part) if entry.split == "train" and key(entry) in held else entry for entry in entries]


def _speaker(entry: Entry) -> str:
    return entry.speaker


def _id(entry: Entry) -> str:
    return entry.id
