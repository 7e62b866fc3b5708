"""Transcripts of files, folders and pipes, and the times of known texts, through the command."""

import io
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if find_spec("soundfile") is None:
    pytest.skip("soundfile not installed", allow_module_level=True)

import soundfile

from headwise_pipelines.command import TRANSCRIPTS
from headwise_speech.formats import FORMATS

LEVELS = {"-": 0.0, " ": 0.2, "A": 0.4, "B": 0.6, "C": 0.8}  # what `recogniser_folder` hears in a tenth of a second


def samples(tokens: str, rate: int = 16_000) -> np.ndarray:
    return np.concatenate([np.full(rate // 10, LEVELS[token], np.float32) for token in tokens])


@pytest.fixture
def recordings(place: Any) -> Path:
    folder = place.folder / "calls"
    (folder / "deep").mkdir(parents=True)
    for name, tokens in {"one.wav": "-AB- C", "deep/two.flac": "CC-C", "none.wav": "---"}.items():
        soundfile.write(folder / name, samples(tokens), 16_000)
    (folder / "notes.txt").write_text("no recording")
    return folder


class Piped:
    """Standard input."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def test_the_commands_formats_are_those_there_are() -> None:
    assert set(TRANSCRIPTS) == FORMATS.keys()


def test_a_folder_is_heard_file_by_file(place, recordings, recogniser_folder) -> None:
    said = place.run("transcribe", recogniser_folder, "calls")
    assert said.out.splitlines() == ["calls/deep/two.flac: CC", "calls/none.wav: ", "calls/one.wav: AB C"]
    assert said.err.splitlines()[0] == "1 of 3: calls/deep/two.flac"


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_every_format_is_written_beside_the_others_and_resumed(name, place, recordings, recogniser_folder) -> None:
    words = ("transcribe", recogniser_folder, "calls", "--format", name, "--out", "texts")
    said = place.run(*words, "--json")
    assert said.code == 0, said.err
    written = {path.name: path.read_text() for path in (place.folder / "texts").iterdir()}
    assert {name.split(".")[0] for name in written} == {"one", "two", "none"}
    assert len(said.json["files"]) == 3
    [one] = [text for file, text in written.items() if file.startswith("one")]
    assert "AB" in one
    [chosen] = [path for path in (place.folder / "texts").iterdir() if path.stem == "one"]
    chosen.write_text("mine")
    (place.folder / "texts" / chosen.with_stem("two").name).unlink()
    again = place.run(*words, "--resume", "--json")
    assert list(again.json["files"]) == ["calls/deep/two.flac"]
    assert chosen.read_text() == "mine"
    assert place.run(*words).code == 0
    assert chosen.read_text() == one


def test_json_has_words_with_times(place, recordings, recogniser_folder) -> None:
    said = place.run("transcribe", recogniser_folder, "calls/one.wav", "--format", "json")
    answer = json.loads(said.out)
    assert (answer["text"], answer["duration"]) == ("AB C", 0.6)
    assert [(word["word"], word["start"], word["end"]) for word in answer["words"]] == [
        ("AB", 0.1, 0.3),
        ("C", 0.5, 0.6),
    ]


def test_standard_input_and_raw_samples(place, recogniser_folder, monkeypatch) -> None:
    file = io.BytesIO()
    soundfile.write(file, samples("A B"), 16_000, format="FLAC")
    monkeypatch.setattr(sys, "stdin", Piped(file.getvalue()))
    assert place.run("transcribe", recogniser_folder, "-").out == "A B\n"
    raw = (samples("A-C", 8_000) * 32767).astype("<i2").tobytes() + b"\0"
    monkeypatch.setattr(sys, "stdin", Piped(raw))
    said = place.run("transcribe", recogniser_folder, "-", "--pcm", 8000, "--out", "texts")
    assert said.code == 0, said.err
    assert (place.folder / "texts/stdin.txt").read_text() == "AC\n"


def test_hot_words_from_a_file(place, recordings, recogniser_folder) -> None:
    (place.folder / "hot.txt").write_text("b\t30\n")
    words = ("transcribe", recogniser_folder, "calls/one.wav")
    assert place.run(*words).out == "AB C\n"
    assert place.run(*words, "--hotwords", "hot.txt").out == "B B\n"


def test_a_text_is_aligned(place, recordings, recogniser_folder) -> None:
    said = place.run("align", recogniser_folder, "calls/one.wav", "ab, c!")
    answer = json.loads(said.out)
    assert [(word["word"], word["start"], word["end"]) for word in answer["words"]] == [
        ("AB", 0.1, 0.3),
        ("C", 0.5, 0.6),
    ]
    (place.folder / "said.txt").write_text("AB C\n")
    said = place.run(
        "align", recogniser_folder, "calls/one.wav", "said.txt", "--format", "textgrid", "--out", "one.TextGrid"
    )
    assert (said.code, said.out) == (0, "")
    assert 'text = "AB"' in (place.folder / "one.TextGrid").read_text()
    assert place.run("align", recogniser_folder, "calls/one.wav", "AB C", "--json").json == {
        "duration": 0.6,
        "words": answer["words"],
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["transcribe", "MODEL", "nowhere.wav"], "nowhere.wav: no such file"),
        (["transcribe", "MODEL", "calls/one.wav", "calls"], "calls/one.wav: named twice"),
        (["transcribe", "MODEL", "empty"], "empty: holds no recordings"),
        (["transcribe", "MODEL", "calls", "--resume"], "--resume skips what is written already, which needs --out"),
        (
            ["transcribe", "MODEL", "calls", "two.wav", "--out", "x"],
            "two.wav: would be written to x/two.txt, as another",
        ),
        (["transcribe", "MODEL", "calls", "--hotwords", "none.txt"], "none.txt: no such file of hot words"),
        (
            ["align", "MODEL", "calls/none.wav", "A B C A B C"],
            "text of 11 tokens, 'A B C A B C': it has no alignment to 3",
        ),
        (["align", "MODEL", "calls/one.wav", "ABX"], "'X' is not among the recogniser's characters"),
        (["align", "MODEL", "calls/one.wav", "!"], "text '!': has no words to align"),
        (["align", "MODEL", "nowhere.wav", "A"], "nowhere.wav: no such file"),
        (
            ["align", "MODEL", "calls/one.wav", "A", "--out", "nowhere/x.json"],
            "nowhere/x.json: there is no folder nowhere",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(words, message, place, recordings, recogniser_folder) -> None:
    (place.folder / "empty").mkdir()
    soundfile.write(place.folder / "two.wav", samples("A"), 16_000)
    said = place.run(*(recogniser_folder if word == "MODEL" else word for word in words))
    assert said.code == 2, said.err
    assert message in said.refusal


def test_nothing_piped(place, recogniser_folder, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", Piped(b""))
    assert "standard input: holds 0 bytes" in place.run("transcribe", recogniser_folder, "-").refusal
