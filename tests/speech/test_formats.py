import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise_speech.formats import FORMATS, LETTERS, LONGEST, PAUSE, SUFFIXES, Transcript, cues
from headwise_speech.transcription import TimedWord

WORDS = [
    TimedWord("AT&T", 0.0, 0.4, 0.5),
    TimedWord("<B>", 0.44, 59.9996, 1.0),
    TimedWord('"C"', 3661.001, 3661.5, 0.25),
]
TRANSCRIPT = Transcript('AT&T <B> "C"', 3662.25, WORDS, "my call.wav")

TIMES = st.lists(st.floats(0, 30).map(lambda seconds: round(seconds, 3)), max_size=46, unique=True).map(sorted)
SAID = TIMES.map(
    lambda edges: [
        TimedWord("W" * (1 + round(end) % 17), *pair)
        for pair in zip(edges[::2], edges[1::2], strict=False)
        for end in pair[1:]
    ]
)


def test_by_hand() -> None:
    assert FORMATS["text"](TRANSCRIPT) == 'AT&T <B> "C"\n'
    assert FORMATS["srt"](TRANSCRIPT) == (
        "1\n00:00:00,000 --> 00:00:00,400\nAT&T\n\n"
        "2\n00:00:00,440 --> 00:01:00,000\n<B>\n\n"
        '3\n01:01:01,001 --> 01:01:01,500\n"C"\n'
    )
    assert FORMATS["vtt"](TRANSCRIPT) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:00.400\nAT&amp;T\n\n"
        "00:00:00.440 --> 00:01:00.000\n&lt;B&gt;\n\n"
        '01:01:01.001 --> 01:01:01.500\n"C"\n'
    )
    assert FORMATS["ctm"](TRANSCRIPT).splitlines() == [
        "my_call.wav 1 0.000 0.400 AT&T 0.500",
        "my_call.wav 1 0.440 59.560 <B> 1.000",
        'my_call.wav 1 3661.001 0.499 "C" 0.250',
    ]
    assert json.loads(FORMATS["json"](TRANSCRIPT)) == {
        "text": TRANSCRIPT.text,
        "duration": 3662.25,
        "words": [dict(zip(("word", "start", "end", "confidence"), word, strict=True)) for word in WORDS],
    }
    assert intervals(FORMATS["textgrid"](TRANSCRIPT)) == [
        (0.0, 0.4, "AT&T"),
        (0.4, 0.44, ""),
        (0.44, 60.0, "<B>"),
        (60.0, 3661.001, ""),
        (3661.001, 3661.5, '"C"'),
        (3661.5, 3662.25, ""),
    ]


def intervals(grid: str) -> list[tuple[float, float, str]]:
    found = re.findall(r'xmin = (\S+)\n +xmax = (\S+)\n +text = "((?:[^"]|"")*)"', grid)
    assert int(re.search(r"intervals: size = (\d+)", grid)[1]) == len(found)
    return [(float(start), float(end), text.replace('""', '"')) for start, end, text in found]


def test_nothing_said() -> None:
    silent = Transcript("", 1.5)
    texts = {name: write(silent) for name, write in FORMATS.items()}
    assert (texts["text"], texts["srt"], texts["vtt"], texts["ctm"]) == ("\n", "", "WEBVTT\n", "")
    assert intervals(texts["textgrid"]) == [(0.0, 1.5, "")]


@given(SAID)
def test_cues_hold_every_word_once_and_are_short(words: list[TimedWord]) -> None:
    found = cues(words)
    assert [word for cue in found for word in cue.words] == words
    for cue in found:
        assert len(cue.words) == 1 or (cue.end - cue.start <= LONGEST and len(cue.text) <= LETTERS)
        assert all(b.start - a.end <= PAUSE for a, b in pairwise(cue.words))


@given(SAID)
def test_a_grid_covers_the_recording_without_overlap(words: list[TimedWord]) -> None:
    grid = intervals(FORMATS["textgrid"](Transcript("", 31.0, words)))
    assert (grid[0][0], grid[-1][1]) == (0.0, 31.0)
    assert all(before[1] == after[0] for before, after in pairwise(grid))
    assert [text for _, _, text in grid if text] == [word.word for word in words]


@pytest.mark.parametrize(
    ("seconds", "clock"), [(0.9996, "00:00:01.000"), (3599.9994, "00:59:59.999"), (359999, "99:59:59.000")]
)
def test_clocks_round_as_a_whole(seconds: float, clock: str) -> None:
    assert clock in FORMATS["vtt"](Transcript("A", 400000, [TimedWord("A", 0.0, seconds)]))


def test_every_format_has_a_suffix() -> None:
    assert FORMATS.keys() == SUFFIXES.keys()
