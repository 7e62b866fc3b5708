import math

import pytest
import torch
import torchaudio

from headwise_speech import audio
from headwise_speech.frontend import FFT, FLOOR, HOP, SAMPLE_RATE, WINDOW, LogMel

MELS = 37


@pytest.fixture(scope="module")
def front_end() -> LogMel:
    return LogMel(MELS)


def noise(batch: int, samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(7))


def test_equals_torchaudio(front_end: LogMel) -> None:
    waveform = noise(3, 7919)
    reference = torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE, FFT, WINDOW, HOP, n_mels=MELS, center=True, pad_mode="constant"
    )
    expected = (reference(waveform) + FLOOR).log().transpose(1, 2)
    spectrogram, frames = front_end(waveform, torch.tensor([7919] * 3))
    assert frames.tolist() == [7919 // 160 + 1] * 3
    torch.testing.assert_close(spectrogram, expected, atol=1e-4, rtol=0)


def test_silence_is_the_floor(front_end: LogMel) -> None:
    spectrogram, frames = front_end(torch.zeros(2, 159), torch.tensor([159, 0]))
    assert frames.tolist() == [1, 1]
    torch.testing.assert_close(spectrogram, torch.full((2, 1, MELS), math.log(1e-6)))


def test_a_tone_is_loudest_in_its_own_mel(front_end: LogMel) -> None:
    time = torch.arange(SAMPLE_RATE) / SAMPLE_RATE
    spectrogram, _ = front_end(torch.sin(2 * math.pi * 1000 * time)[None], torch.tensor([SAMPLE_RATE]))
    # 1000 Hz is 1000 mel; filter m peaks at (m + 1) / 38 of the 2840 mel that make 8 kHz.
    assert spectrogram[0, 50].argmax() == round(1000 / 2840 * 38) - 1


def test_what_lies_beyond_the_length_changes_nothing(front_end: LogMel) -> None:
    waveform = noise(1, 1709)
    alone, frames = front_end(waveform, torch.tensor([1709]))
    dirty = torch.cat([waveform, noise(1, 997)], 1)
    beside, same = front_end(torch.cat([noise(1, 2706), dirty]), torch.tensor([2706, 1709]))
    assert same[1] == frames[0]
    torch.testing.assert_close(beside[1, : frames[0]], alone[0], atol=1e-5, rtol=0)


def test_calibration_normalises_the_training_set() -> None:
    front_end = LogMel(MELS)
    waveforms = [noise(1, 1009)[0], 3 * noise(1, 2003)[0]]
    front_end.calibrate(waveforms)
    frames = torch.cat([front_end(w[None], torch.tensor([len(w)]))[0][0] for w in waveforms])
    torch.testing.assert_close(frames.mean(0), torch.zeros(MELS), atol=1e-4, rtol=0)
    torch.testing.assert_close(frames.std(0, correction=0), torch.ones(MELS), atol=1e-3, rtol=0)
    assert set(front_end.state_dict()) == {"mean", "deviation"}


def test_training_and_serving_agree_on_the_sample_rate() -> None:
    assert SAMPLE_RATE == audio.SAMPLE_RATE
