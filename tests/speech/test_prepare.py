import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from headwise.errors import InputError
from headwise_speech import prepare as room
from headwise_speech.audio import decode
from headwise_speech.prepare import prepare

DATA = Path(__file__).parents[3] / "shared/data"


def corpus(folder: Path, count: int = 7) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    lines = []
    for number in range(count):
        samples = draw.uniform(-0.5, 0.5, (1_009 + 13 * number, 1 + number % 2))
        soundfile.write(folder / f"{number}.wav", samples, 8_000 if number % 3 else 16_000)
        lines.append(json.dumps({"audio": f"{number}.wav", "text": f"go {number}", "speaker": "x"}))
    (folder / "train.jsonl").write_text("\n".join(lines))
    return folder


def test_prepared_audio_is_what_the_server_would_hear(tmp_path):
    source = corpus(tmp_path / "tiny")
    data = prepare(source, tmp_path / "prepared")
    assert (data.name, data.source, data.sample_rate) == ("tiny", str(source.resolve()), 16_000)
    assert data.ids == [str(number) for number in range(7)]
    assert data.texts[3] == "go 3"
    assert Counter(data.splits) == {"train": 6, "valid": 1}
    for number in range(7):
        np.testing.assert_allclose(data.waveform(number), decode(source / f"{number}.wav"), atol=1 / 32_768)
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", "prepared"}


def test_it_is_read_again_only_where_content_changed(tmp_path, monkeypatch):
    source, target = corpus(tmp_path / "tiny"), tmp_path / "prepared"
    decoded = []
    monkeypatch.setattr(room, "decode", lambda path: decoded.append(path) or decode(path))
    first = prepare(source, target)
    assert len(decoded) == 7

    os.utime(source / "3.wav", (0, 0))  # a copy with other times is the same corpus
    assert prepare(source, target).fingerprint == first.fingerprint
    assert len(decoded) == 7

    samples, rate = soundfile.read(source / "3.wav", dtype="int16")
    samples[5] += 1
    soundfile.write(source / "3.wav", samples, rate)
    second = prepare(source, target)
    assert second.fingerprint != first.fingerprint
    assert len(decoded) == 14

    manifest = source / "train.jsonl"
    manifest.write_text(manifest.read_text().replace("go 5", "no 5"))
    assert prepare(source, target).texts[5] == "no 5"
    assert len(decoded) == 21

    assert len(list(target.iterdir())) == 3  # one folder a content
    (target / f"tiny-{prepare(source, target).fingerprint[:12]}" / "audio.npy").write_bytes(b"cut short")
    assert prepare(source, target).seconds == first.seconds
    assert len(decoded) == 28


def test_a_bad_recording_is_named_the_others_counted_and_nothing_written(tmp_path):
    source, target = corpus(tmp_path / "tiny"), tmp_path / "prepared"
    before = prepare(source, target)
    for number in (2, 4, 5):
        (source / f"{number}.wav").write_text("not audio")
    with pytest.raises(InputError, match=r"2\.wav: not audio that can be read.*and 2 more recordings cannot be used"):
        prepare(source, target)
    assert [room.load(folder).fingerprint for folder in target.iterdir()] == [before.fingerprint]
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", "prepared"}


def test_the_corpus_itself_is_never_replaced(tmp_path):
    source = corpus(tmp_path / "tiny")
    prepare(source, source)
    assert (source / "6.wav").is_file()


@pytest.mark.skipif(not (DATA / "yesno").is_dir(), reason="../shared/data/yesno is absent")
def test_yesno(tmp_path):
    data = prepare(DATA / "yesno", tmp_path / "yesno")
    assert len(data) == 60
    assert data.seconds / 60 == pytest.approx(6.13, abs=0.01)
    assert Counter(data.splits) == {"train": 27, "valid": 3, "test": 30}


@pytest.mark.skipif(not (DATA / "an4").is_dir(), reason="../shared/data/an4 is absent")
def test_an4(tmp_path):
    data = prepare(DATA / "an4", tmp_path / "an4")
    assert data.durations[data.subset("test")].sum() / 60 == pytest.approx(5.95, abs=0.01)
    assert (data.seconds - data.durations[data.subset("test")].sum()) / 60 == pytest.approx(42.44, abs=0.01)
    samples, _ = soundfile.read(DATA / "an4/flac/an4_clstk/fash/an251-fash-b.flac", dtype="int16")
    index = data.ids.index("an251-fash-b")
    np.testing.assert_array_equal(data.samples[data.offsets[index] : data.offsets[index + 1]], samples)
