import json

import numpy as np
import pytest

from headwise.errors import InputError, NotFound
from headwise_speech.utterances import Utterances, load, quantise, save

LENGTHS = [2, 7, 0, 5]


def corpus() -> Utterances:
    samples = np.random.default_rng(0).integers(-32_768, 32_768, sum(LENGTHS)).astype(np.int16)
    return Utterances(
        samples=samples,
        offsets=np.cumsum([0, *LENGTHS]),
        ids=["a", "b", "c", "d"],
        texts=["GO", "NEJ Å", "YES", "NO"],
        speakers=["x", "y", "", "x"],
        splits=["train", "test", "valid", "train"],
        sample_rate=16_000,
        name="tiny",
        fingerprint="f" * 64,
        source="somewhere/tiny",
    )


def test_a_corpus_survives_its_folder(tmp_path):
    data = corpus()
    save(data, tmp_path / "tiny")
    again = load(tmp_path / "tiny")
    assert isinstance(again.samples, np.memmap)
    assert again.samples.dtype == np.int16
    np.testing.assert_array_equal(again.samples, data.samples)
    np.testing.assert_array_equal(again.offsets, data.offsets)
    for name in ("ids", "texts", "speakers", "splits", "sample_rate", "name", "fingerprint", "source"):
        assert getattr(again, name) == getattr(data, name)
    assert {path.name for path in tmp_path.iterdir()} == {"tiny"}


def test_the_files_are_those_of_the_format(tmp_path):
    save(corpus(), tmp_path)
    assert np.load(tmp_path / "audio.npy").shape == (14,)
    assert np.load(tmp_path / "offsets.npy").tolist() == [0, 2, 9, 9, 14]
    assert json.loads((tmp_path / "utterances.json").read_text("utf-8"))[1] == {
        "id": "b",
        "text": "NEJ Å",
        "speaker": "y",
        "split": "test",
    }
    meta = json.loads((tmp_path / "meta.json").read_text("utf-8"))
    assert meta == {
        "name": "tiny",
        "fingerprint": "f" * 64,
        "source": "somewhere/tiny",
        "sample_rate": 16_000,
        "seconds": 14 / 16_000,
    }


def test_views():
    data = corpus()
    assert len(data) == 4
    np.testing.assert_array_equal(data.durations * 16_000, LENGTHS)
    assert data.seconds == 14 / 16_000
    assert data.subset("train").tolist() == [0, 3]
    assert data.subset("elsewhere").tolist() == []
    assert data.waveform(1).dtype == np.float32
    assert data.waveform(2).shape == (0,)
    np.testing.assert_array_equal(data.waveform(1) * 32_768, data.samples[2:9])


def test_quantise_undoes_waveform_and_clips():
    data = corpus()
    np.testing.assert_array_equal(quantise(data.waveform(3)), data.samples[9:])
    assert quantise(np.array([1.0, -1.0, 0.6 / 32_768], np.float32)).tolist() == [32_767, -32_768, 1]


def test_damage_is_found(tmp_path):
    with pytest.raises(NotFound, match="holds no prepared speech"):
        load(tmp_path)
    save(corpus(), tmp_path / "tiny")
    np.save(tmp_path / "tiny/offsets.npy", np.array([0, 2, 9]))
    with pytest.raises(InputError, match="4 utterances, 3 offsets up to"):
        load(tmp_path / "tiny")
    (tmp_path / "tiny/audio.npy").write_bytes(b"")
    with pytest.raises(InputError, match="damaged prepared speech"):
        load(tmp_path / "tiny")


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds something that is not prepared speech"):
        save(corpus(), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
