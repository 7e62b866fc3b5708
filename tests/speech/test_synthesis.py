import json
import sys
import wave
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from headwise.errors import HeadwiseError, InputError
from headwise_speech import audio, readers, synthesis
from headwise_speech.synthesis import DIGITS, LETTERS, Utterance

SIZES = {"train": 11, "valid": 3, "test": 5}
RATE = 22050  # Hz

needs_espeak = pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="espeakng_loader is not installed")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech") / "digits"
    synthesis.generate(folder, **SIZES, seed=7)
    return folder


def lines(manifest: Path) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def say(*words: str, voice: str = "en-us+m3", seed: int = 2) -> np.ndarray:
    [(samples, rate)] = list(synthesis.spoken([Utterance("", "", words, voice, "middle", (seed,))]))
    assert rate == RATE
    return samples


@needs_espeak
def test_manifests_tell_what_the_audio_is(corpus: Path) -> None:
    for split, size in SIZES.items():
        rows = lines(corpus / f"{split}.jsonl")
        assert len(rows) == size
        for row in rows:
            assert set(row) == {"id", "audio", "text", "speaker", "duration"}
            assert 1 <= len(row["text"].split()) <= 5
            assert set(row["text"].split()) <= {*DIGITS, *LETTERS}
            with wave.open(str(corpus / row["audio"])) as file:
                assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
                assert file.getnframes() / RATE == pytest.approx(row["duration"], abs=1e-3)
                samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
            assert 10 ** (-15.1 / 20) < np.abs(samples).max() < 10 ** (-1.9 / 20)  # loud enough, never clipped
            assert 0.2 < row["duration"] / len(row["text"].split()) < 1.5


@needs_espeak
def test_the_readers_take_it(corpus: Path) -> None:
    entries = readers.read(corpus)
    assert [entry.split for entry in entries].count("test") == SIZES["test"]
    waveform = audio.decode(entries[0].audio)
    assert len(waveform) / 16_000 == pytest.approx(lines(corpus / "train.jsonl")[0]["duration"], abs=0.01)


@needs_espeak
def test_the_same_seed_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    synthesis.generate(tmp_path / "again", **SIZES, seed=7)
    files = sorted(path.relative_to(corpus) for path in corpus.rglob("*.*"))
    assert len(files) == sum(SIZES.values()) + 4
    assert all((corpus / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)


@needs_espeak
def test_voices_with_breath_are_repeatable_and_differ() -> None:
    # f2, f3 and f5 breathe at random, which espeak-ng seeds from the clock unless it is told otherwise.
    first = say("SEVEN", voice="en+f2")
    np.testing.assert_array_equal(first, say("SEVEN", voice="en+f2"))
    assert not np.array_equal(first, say("SEVEN", voice="en+f3"))


@needs_espeak
def test_within_a_sentence_a_is_the_letter() -> None:
    # The article is a short weak vowel; the letter takes as long and is as loud as any other.
    letter, other = len(say("THREE", "A", "NINE")), len(say("THREE", "E", "NINE"))
    assert 0.8 < letter / other < 1.25
    assert letter > len(say("THREE", "NINE")) + 0.15 * RATE


@needs_espeak
def test_espeak_stays_in_its_own_process(corpus: Path) -> None:
    maps = Path("/proc/self/maps")
    assert "espeakng_loader" not in sys.modules
    assert not maps.exists() or "espeak" not in maps.read_text()


@needs_espeak
def test_an_unknown_voice_is_named() -> None:
    with pytest.raises(HeadwiseError, match=r"no voice 'en-xx\+m1'"):
        say("ONE", voice="en-xx+m1")


@needs_espeak
def test_all_voices_differ() -> None:
    # An accent that is unknown is an error, a timbre that is unknown is passed over in silence.
    voices = [f"{accent}+{timbre}" for accent in synthesis.ACCENTS for timbre in synthesis.TIMBRES]
    same = [Utterance("", "", ("FOUR", "R"), voice, "middle", (2,)) for voice in voices]
    heard = {samples.tobytes() for samples, _ in synthesis.spoken(same)}
    assert len(heard) == len(voices) == 78


def test_no_voice_is_in_two_parts() -> None:
    plan = synthesis.plan({"train": 601, "valid": 101, "test": 151}, seed=3)
    voices = {split: {u.voice for u in plan if u.split == split} for split in SIZES}
    assert [len(voices[split]) for split in ("train", "valid", "test")] == [58, 8, 12]
    assert len(set.union(*voices.values())) == 78
    words = {word for utterance in plan if utterance.split == "train" for word in utterance.words}
    assert words == {*DIGITS, *LETTERS}


def test_noise_is_15_to_40_decibels_below() -> None:
    tone = np.rint(8000 * np.sin(2 * np.pi * 441 * np.arange(RATE) / RATE)).astype(np.int16)
    ratios = []
    for seed in range(53):
        samples = synthesis.recorded(tone, RATE, np.random.default_rng(seed)).astype(float)
        assert RATE // 10 <= len(samples) - len(tone) <= RATE // 2
        silence, speech = samples[: RATE // 20], samples[RATE // 2 : RATE]
        ratios.append(10 * np.log10((speech**2).mean() / (silence**2).mean()))
    assert 13 < min(ratios) < 20
    assert 35 < max(ratios) < 44


def test_without_espeak_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(synthesis, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'headwise\[synth\]'"):
        synthesis.generate(tmp_path / "digits")
    assert not any(tmp_path.iterdir())


@needs_espeak
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds something that is not generated speech"):
        synthesis.generate(tmp_path, **SIZES)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
