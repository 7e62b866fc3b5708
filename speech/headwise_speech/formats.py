"""Transcripts as files: text, JSON, SRT, WebVTT, CTM and Praat's TextGrid."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from headwise_speech.text import SPACE
from headwise_speech.transcription import TimedWord

PAUSE = 0.8  # seconds between two words, after which a new cue begins
LONGEST = 7.0  # seconds of a cue
LETTERS = 84  # of a cue, two lines of 42


@dataclass(frozen=True)
class Transcript:
    """A recording's text and its words.

    Args:
        text: all of it.
        seconds: the recording's length.
        words: when they were said, in order.
        name: the recording's, for formats that hold one.
    """

    text: str
    seconds: float
    words: Sequence[TimedWord] = field(default_factory=list)
    name: str = "recording"


@dataclass(frozen=True)
class Cue:
    """A few words that are shown together."""

    words: Sequence[TimedWord]

    @property
    def start(self) -> float:
        """Seconds."""
        return self.words[0].start

    @property
    def end(self) -> float:
        """Seconds."""
        return self.words[-1].end

    @property
    def text(self) -> str:
        """The words."""
        return SPACE.join(word.word for word in self.words)


def cues(words: Sequence[TimedWord]) -> list[Cue]:
    """Words in stretches for subtitles: a new one after a pause, or where one would be too long to read."""
    stretches: list[list[TimedWord]] = []
    for word in words:
        if not stretches or _parts(stretches[-1], word):
            stretches.append([])
        stretches[-1].append(word)
    return [Cue(stretch) for stretch in stretches]


def _parts(stretch: Sequence[TimedWord], word: TimedWord) -> bool:
    letters = sum(len(each.word) + 1 for each in stretch) + len(word.word)
    return word.start - stretch[-1].end > PAUSE or word.end - stretch[0].start > LONGEST or letters > LETTERS


def as_text(transcript: Transcript) -> str:
    """One line."""
    return f"{transcript.text}\n"


def as_json(transcript: Transcript) -> str:
    """One object on one line: text, duration, words."""
    words = [word._asdict() for word in transcript.words]
    content = {"text": transcript.text, "duration": transcript.seconds, "words": words}
    return json.dumps(content, ensure_ascii=False) + "\n"


def as_srt(transcript: Transcript) -> str:
    """SubRip subtitles."""
    blocks = [
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues(transcript.words), 1)
    ]
    return "\n".join(blocks)


def as_vtt(transcript: Transcript) -> str:
    """WebVTT (W3C), the subtitles of browsers."""
    blocks = [
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escaped(cue.text)}\n" for cue in cues(transcript.words)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def as_ctm(transcript: Transcript) -> str:
    """NIST's time-marked conversation file: recording, channel, start, duration, word, confidence, a line a word."""
    name = "_".join(transcript.name.split()) or "recording"
    return "".join(
        f"{name} 1 {word.start:.3f} {word.end - word.start:.3f} {word.word} {word.confidence:.3f}\n"
        for word in transcript.words
    )


def as_textgrid(transcript: Transcript) -> str:
    """Praat's TextGrid with one tier of words; what lies between them are intervals without text."""
    end = max([transcript.seconds, *(word.end for word in transcript.words)])
    intervals, at = [], 0.0
    for word in transcript.words:
        if word.start > at:
            intervals.append((at, word.start, ""))
        intervals.append((word.start, word.end, word.word))
        at = word.end
    if at < end or not intervals:
        intervals.append((at, end, ""))
    lines = [
        *('File type = "ooTextFile"', 'Object class = "TextGrid"', ""),
        *("xmin = 0", f"xmax = {end:.3f}", "tiers? <exists>", "size = 1", "item []:", "    item [1]:"),
        *('        class = "IntervalTier"', '        name = "words"', "        xmin = 0", f"        xmax = {end:.3f}"),
        f"        intervals: size = {len(intervals)}",
    ]
    for number, (start, stop, text) in enumerate(intervals, 1):
        quoted = text.replace('"', '""')
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {start:.3f}",
            f"            xmax = {stop:.3f}",
            f'            text = "{quoted}"',
        ]
    return "\n".join(lines) + "\n"


FORMATS: Mapping[str, Callable[[Transcript], str]] = {
    "text": as_text,
    "json": as_json,
    "srt": as_srt,
    "vtt": as_vtt,
    "ctm": as_ctm,
    "textgrid": as_textgrid,
}
SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt", "ctm": ".ctm", "textgrid": ".TextGrid"}


def _clock(seconds: float, point: str) -> str:
    # Whole milliseconds first: rounded one by one, 59.9996 s would read 00:00:60.
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
