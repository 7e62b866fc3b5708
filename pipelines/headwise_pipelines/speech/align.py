"""When the words of a known text were said, by a recogniser's own log probabilities. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headwise.errors import InputError, NotFound
from headwise.files import replacing
from headwise_pipelines.serve import of_kind
from headwise_speech.formats import FORMATS, Transcript

LONGEST = 600.0  # seconds; time and memory grow with frames times tokens


def align(model: str, audio: Path, text: str, *, format: str, out: Path | None, quiet: bool) -> Mapping[str, Any]:
    """Times of the words of a text in a recording, printed or written.

    Args:
        model: `models:/name@alias`, `models:/name/version` or a model folder.
        audio: the recording.
        text: what is said in it, or the path of a file that holds it.
        format: of what is printed or written, json, textgrid, ctm, srt or vtt.
        out: a file to write instead of printing.
        quiet: print nothing.

    Raises:
        NotFound: there is no such recording.
        InputError: the text has no words, has letters that the recogniser lacks, or is too long for the recording.
    """
    service = of_kind(model, "recogniser", max_seconds=LONGEST)
    said = _said(text)
    seconds, words = service.align(audio, said)
    if out is not None and not out.parent.is_dir():
        raise NotFound(f"{out}: there is no folder {out.parent}")
    written = FORMATS[format](Transcript(" ".join(word.word for word in words), seconds, words, audio.stem))
    if out is not None:
        with replacing(out) as draft:
            draft.write_text(written, encoding="utf-8")
    elif not quiet:
        print(written, end="", flush=True)
    return {"duration": seconds, "words": [word._asdict() for word in words]}


def _said(text: str) -> str:
    try:
        path = Path(text)
        found = path.is_file()
    except OSError:  # longer than a name can be, so it is a text
        found = False
    if not found:
        return text
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
