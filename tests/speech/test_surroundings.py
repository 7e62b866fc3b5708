import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from headwise.errors import InputError
from headwise_speech.batches import SpeechBatches
from headwise_speech.surroundings import Surroundings, mix, reverberate
from headwise_speech.text import Vocabulary
from headwise_speech.utterances import Utterances


def noise(samples: int, seed: int = 5) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def decibels(speech: torch.Tensor, rest: torch.Tensor) -> float:
    return 10 * math.log10(float(speech.square().sum() / rest.square().sum()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("surroundings")
    (place / "noises" / "below").mkdir(parents=True)
    (place / "rooms").mkdir()
    soundfile.write(place / "noises" / "below" / "hum.flac", noise(701, seed=7).numpy(), 16_000)
    soundfile.write(place / "rooms" / "hall.wav", np.array([0.0, 0.1, 0.5, 0.0, 0.25], np.float32), 16_000)
    return place


@pytest.mark.parametrize("ratio", [-3.0, 0.0, 17.0])
def test_noise_has_the_power_that_the_ratio_says(ratio: float) -> None:
    speech = noise(3001)
    assert decibels(speech, mix(speech, noise(3001, seed=7), ratio) - speech) == pytest.approx(ratio, abs=1e-3)


def test_silence_stays_silence() -> None:
    assert not mix(torch.zeros(7), noise(7), 5.0).any()
    assert torch.equal(mix(noise(7), torch.zeros(7), 5.0), noise(7))


def test_a_room_by_hand() -> None:
    # Sound comes straight, as 1, and again two samples later, as 1/2; what comes before the peak is left out.
    wet = reverberate(torch.tensor([0.2, 0.0, 0.0, 0.4]), torch.tensor([0.3, 1.0, 0.0, 0.5]))
    dry = torch.tensor([0.2, 0.0, 0.1, 0.4])
    torch.testing.assert_close(wet, dry * math.sqrt(0.2 / 0.21))


def test_the_same_seed_draws_the_same_surroundings(folder: Path) -> None:
    around, speech = Surroundings(str(folder / "noises"), str(folder / "rooms"), low=7, high=11), noise(3001)
    drawn = [around(speech, seed) for seed in range(80)]
    assert torch.equal(around(speech, 7), drawn[7])
    assert all(one.shape == speech.shape and one.abs().max() <= 1 for one in drawn)
    untouched = sum(torch.equal(one, speech) for one in drawn)
    assert 8 < untouched < 35  # a quarter of them: no room and no noise
    only_noise = Surroundings(str(folder / "noises"), share=1.0, low=7, high=11)
    ratios = [decibels(speech, only_noise(speech, seed) - speech) for seed in range(23)]
    assert 7 <= min(ratios) < 8
    assert 10 < max(ratios) <= 11


def test_what_would_be_too_loud_is_made_softer(folder: Path) -> None:
    loud = Surroundings(str(folder / "noises"), share=1.0, low=-20, high=-20)(9 * noise(3001), 3)
    assert float(loud.abs().max()) == pytest.approx(1.0)


def test_only_training_utterances_are_elsewhere(folder: Path) -> None:
    samples = (3000 * noise(6002)).to(torch.int16).numpy()
    rows = ["u", "v"], ["YES", "YES"], ["", ""], ["train", "valid"]
    data = Utterances(samples, np.array([0, 3001, 6002]), *rows, 16_000, "two", fingerprint="", source="")
    around = Surroundings(str(folder / "noises"), share=1.0)
    batches = SpeechBatches(data, Vocabulary.of(data.texts), seconds=1.0, speeds=(1.0,), surroundings=around)
    [train], [valid] = batches.train_dataloader(), batches.val_dataloader()
    assert torch.equal(train.waveform[0], around(torch.from_numpy(data.waveform(0)), int(train.seeds[0])))
    assert torch.equal(valid.waveform[0], torch.from_numpy(data.waveform(1)))


def test_a_folder_must_hold_recordings(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        Surroundings(noises=str(tmp_path), share=1.0)(noise(7), 3)
    assert str(error.value) == f"surroundings.noises ({tmp_path}): no recordings there (.flac, .mp3, .ogg, .wav)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 1.5}, "surroundings.share (1.5) must be from 0 to 1"),
        ({"rooms": "nowhere"}, "surroundings.rooms (nowhere): no such folder"),
        ({"low": 9.0, "high": 7.0}, "surroundings.low (9.0) must not be above surroundings.high (7.0)"),
    ],
)
def test_settings_must_make_sense(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        Surroundings(**settings)  # type: ignore[arg-type]
    assert str(error.value) == message
