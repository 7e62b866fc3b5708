from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from headwise_speech import synthesis
from headwise_speech.synthetic import said_again, with_synthetic
from headwise_speech.utterances import SYNTHETIC, Utterances

needs_espeak = pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="espeakng_loader is not installed")


@pytest.fixture(scope="module")
def data() -> Utterances:
    lengths = np.random.default_rng(5).integers(1601, 3201, 11)
    return Utterances(
        samples=np.arange(lengths.sum(), dtype=np.int16),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        ids=[f"u{i}" for i in range(11)],
        texts=["Rubout J", "twenty <one>", "don't"] * 3 + ["UNHEARD", "UNHEARD"],
        speakers=["s"] * 11,
        splits=["train"] * 9 + ["valid", "test"],
        sample_rate=16_000,
        name="toy",
        fingerprint="f",
        source="here",
    )


def test_training_texts_are_said_again_by_many_voices(data: Utterances) -> None:
    planned = said_again(data, 53, seed=3)
    assert {utterance.text for utterance in planned} == {"RUBOUT J", "TWENTY ONE", "DON'T"}
    assert len({utterance.voice for utterance in planned}) > 20
    assert planned == said_again(data, 53, seed=3)
    assert planned != said_again(data, 53, seed=5)


@needs_espeak
def test_own_utterances_come_first_and_stay_as_they_are(data: Utterances, tmp_path: Path) -> None:
    more = with_synthetic(data, tmp_path, share=0.25, seed=3)  # a third of nine
    assert more.ids[:11] == data.ids
    assert more.ids[11:] == [f"{SYNTHETIC}0000{number}" for number in range(3)]
    assert more.splits == [*data.splits, *["train"] * 3]
    assert (more.samples[: len(data.samples)] == data.samples).all()
    assert all(0.2 < seconds < 4 for seconds in more.durations[11:])
    assert (more.name, more.sample_rate) == ("toy", 16_000)
    assert more.fingerprint != data.fingerprint


@needs_espeak
def test_what_was_said_once_is_not_said_again(
    data: Utterances, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = with_synthetic(data, tmp_path, share=0.25, seed=3)
    monkeypatch.setattr("headwise_speech.synthetic.spoken", None)
    assert (with_synthetic(data, tmp_path, share=0.25, seed=3).samples == first.samples).all()


def test_no_share_adds_nothing(data: Utterances, tmp_path: Path) -> None:
    assert with_synthetic(data, tmp_path, share=0.0, seed=3) is data
    assert not list(tmp_path.iterdir())


def test_words_are_said_and_letters_spelt() -> None:
    request = synthesis._request(
        synthesis.Utterance("", "train", ("RUBOUT", "J", "R&B"), "en+m1", "low", (3,)), np.random.default_rng(3)
    )
    assert "rubout" in str(request["text"])
    assert '<say-as interpret-as="characters">J</say-as>' in str(request["text"])
    assert "r&amp;b" in str(request["text"])
