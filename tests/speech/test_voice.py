import numpy as np
import pytest

from headwise_speech.audio import SAMPLE_RATE
from headwise_speech.voice import contrast, spoken, voiced

TIME = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE  # 2 s
WORDS = [(0.2, 0.5), (0.7, 1.1), (1.3, 1.9)]
DRAW = np.random.default_rng(0)


def hum(pitch: np.ndarray | float, level: float = 0.1) -> np.ndarray:
    """Harmonics of a pitch that may change."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(pitch, TIME.shape)) / SAMPLE_RATE
    return (level * sum(np.sin(number * phase) / number for number in range(1, 8))).astype(np.float32)


def glide() -> np.ndarray:
    return 150 * 2 ** (0.4 * np.sin(2 * np.pi * 1.5 * TIME))  # 110 to 200 Hz and back, three times in 2 s


def noise(level: float) -> np.ndarray:
    return (level * DRAW.standard_normal(len(TIME))).astype(np.float32)


def inside() -> np.ndarray:
    return sum(((start <= TIME) & (end > TIME)).astype(np.float32) for start, end in WORDS)


def test_a_gliding_voice_is_one_and_a_tone_is_none() -> None:
    assert voiced(hum(glide()), WORDS) == 1.0
    assert spoken(hum(glide()), WORDS)
    for pitch in (90.0, 110.0, 220.0, 333.0):
        assert voiced(hum(pitch), WORDS) == 0.0
        assert not spoken(hum(pitch), WORDS)


def test_a_melody_is_none() -> None:
    notes = 220 * 2 ** (np.array([0, 4, 7, 12, 7, 4, 0, 5])[(TIME * 4).astype(int)] / 12)
    assert voiced(hum(notes), WORDS) < 0.25


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.01, 0.2])
def test_noise_and_silence_are_none(level: float) -> None:
    assert voiced(noise(level), WORDS) < 0.25
    assert not spoken(noise(level), WORDS)


def test_a_voice_is_heard_through_noise_and_at_any_level() -> None:
    assert voiced(hum(glide()) + noise(0.05), WORDS) > 0.5
    assert voiced(hum(glide(), level=0.003), WORDS) == 1.0
    assert voiced(hum(glide(), level=1e-6), WORDS) == 0.0


def test_a_whisper_stands_out() -> None:
    whisper = noise(0.1) * inside() + noise(0.001)
    assert voiced(whisper, WORDS) < 0.25
    assert contrast(whisper, WORDS) == pytest.approx(36, abs=4)  # 40 dB, the frames at the edges hold both
    assert spoken(whisper, WORDS)


def test_what_is_heard_without_doubt_was_said() -> None:
    assert spoken(noise(0.01), WORDS, 0.98)
    assert not spoken(noise(0.01), WORDS, 0.96)
    assert not spoken(noise(0.01), [], 1.0)


def test_where_a_voice_is_matters() -> None:
    early = hum(glide()) * (TIME < 1)
    assert voiced(early, [(0.2, 0.8)]) == 1.0
    assert voiced(early, [(1.2, 1.8)]) == 0.0
    assert voiced(early, [(0.2, 0.8), (1.2, 1.8)]) == 0.5
    assert contrast(early, [(1.2, 1.8)]) < 0


@pytest.mark.parametrize("samples", [1, 7, 799, 801])
def test_what_is_shorter_than_a_frame(samples: int) -> None:
    assert not spoken(np.full(samples, 0.1, np.float32), [(0.0, 0.04)])
    assert not spoken(np.full(samples, 0.1, np.float32), [])
