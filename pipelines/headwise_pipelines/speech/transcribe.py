"""What a recogniser hears in files, folders, standard input or a microphone, printed or written beside each other. No torch."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from headwise.errors import InputError, NotFound
from headwise.files import replacing
from headwise_pipelines.serve import of_kind
from headwise_speech.asking import Asked
from headwise_speech.audio import from_pcm
from headwise_speech.decoding import read_hotwords
from headwise_speech.formats import FORMATS, SUFFIXES, Transcript

STANDARD_INPUT = "-"
AUDIO = (".flac", ".wav", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".sph", ".w64")
LONGEST = 60.0  # seconds of a recording
STRIP = 40  # characters
LEVELS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Output:
    """Where transcripts go, and how they look.

    Attributes:
        format: one of `headwise_speech.formats.FORMATS`.
        folder: a file beside the other for each recording; None prints them.
        resume: whether recordings that have a file already are skipped.
        explain: whether the frames that carried each word are shown, too.
        quiet: whether nothing is printed.
    """

    format: str = "text"
    folder: Path | None = None
    resume: bool = False
    explain: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Source:
    """A recording to hear.

    Attributes:
        name: what messages call it; its file's path from the folder that was named.
        path: its file, None for standard input.
    """

    name: str
    path: Path | None


def transcribe(
    model: str, paths: Sequence[str], output: Output, *, hotwords: Path | None = None, pcm: int | None = None
) -> Mapping[str, Any]:
    """What a recogniser hears.

    Args:
        model: `models:/name@alias`, `models:/name/version` or a model folder.
        paths: files, folders, whose recordings are all heard, or "-" for standard input.
        output: where the transcripts go.
        hotwords: a file of phrases to expect.
        pcm: standard input is raw mono 16-bit little-endian samples of this rate, without a header.

    Raises:
        NotFound: there is no such file.
        InputError: one cannot be read; two would be written to the same file.
    """
    sources = _sources(paths)
    targets = _targets(sources, output)
    service = of_kind(model, "recogniser", max_seconds=LONGEST)
    asked = Asked(words=True, explain=output.explain, hotwords=read_hotwords(hotwords) if hotwords else {})
    answers: dict[str, Any] = {}
    for number, source in enumerate(sources, 1):
        target = targets.get(source.name)
        if target and output.resume and target.exists():
            continue
        if len(sources) > 1:
            print(f"{number} of {len(sources)}: {source.name}", file=sys.stderr, flush=True)
        answer, words = service.transcribe(source.path or _heard(sys.stdin.buffer, pcm), asked, name=source.name)
        answers[source.name] = msgspec.to_builtins(answer)
        written = FORMATS[output.format](Transcript(answer.text, answer.duration, words, Path(source.name).stem))
        if target:
            with replacing(target) as draft:
                draft.write_text(written, encoding="utf-8")
        elif not output.quiet:
            _print(source, written, answer, output, several=len(sources) > 1)
    return {"files": answers}


def _sources(paths: Sequence[str]) -> list[Source]:
    sources = [source for path in paths for source in _found(path)]
    names = [source.name for source in sources]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"{twice}: named twice; name each recording once")
    return sources


def _found(path: str) -> Iterator[Source]:
    if path == STANDARD_INPUT:
        yield Source("standard input", None)
        return
    place = Path(path)
    if not place.is_dir():
        yield Source(path, place)  # whether it is there is found out when it is read
        return
    files = sorted(file for file in place.rglob("*") if file.suffix.lower() in AUDIO and file.is_file())
    if not files:
        raise NotFound(f"{path}: holds no recordings ({', '.join(AUDIO)})")
    yield from (Source(str(file), file) for file in files)


def _targets(sources: Sequence[Source], output: Output) -> dict[str, Path]:
    if output.folder is None:
        if output.resume:
            raise InputError("--resume skips what is written already, which needs --out")
        return {}
    targets: dict[str, Path] = {}
    for source in sources:
        stem = source.path.stem if source.path else "stdin"
        target = output.folder / f"{stem}{SUFFIXES[output.format]}"
        if target in targets.values():
            raise InputError(f"{source.name}: would be written to {target}, as another one is; use a folder for each")
        targets[source.name] = target
    return targets


def _heard(stream: BinaryIO, pcm: int | None) -> bytes:
    content = stream.read()
    if not content:
        raise InputError("standard input: holds 0 bytes; pipe a recording into it")
    return content if pcm is None else from_pcm(content, pcm)


def _print(source: Source, written: str, answer: Any, output: Output, *, several: bool) -> None:
    if output.format == "text" and several:
        written = f"{source.name}: {written}"
    print(written, end="", flush=True)
    for word in answer.words if output.explain and output.format == "text" else ():
        print(f"  {word.start:6.2f} to {word.end:6.2f} s  {_strip(word.attention)}  {word.word}", flush=True)


def _strip(attention: Sequence[float]) -> str:
    # The whole recording from left to right, each cell as high as the most attended of its frames.
    edges = [at * len(attention) // STRIP for at in range(STRIP + 1)]
    heights = [max(attention[start : max(end, start + 1)]) for start, end in pairwise(edges)]
    most = max(heights) or 1.0
    return "".join(LEVELS[round(height / most * (len(LEVELS) - 1))] for height in heights)
