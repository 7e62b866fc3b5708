"""Training utterances made different each time they are heard, by draws that follow from seed, epoch and utterance alone."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torchaudio
from jaxtyping import Float, Int
from torch import Tensor

from headwise.errors import InputError
from headwise_speech.frontend import SAMPLE_RATE

SPEEDS = (0.9, 1.0, 1.1)


def change_speed(waveform: Float[Tensor, " samples"], speed: float) -> Float[Tensor, " samples"]:
    """The utterance spoken `speed` times as fast, and as much higher (Ko et al. 2015)."""
    if speed == 1.0:
        return waveform
    faster: Tensor = _resampler(speed)(waveform)
    return faster


@cache
def _resampler(speed: float) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(round(speed * SAMPLE_RATE), SAMPLE_RATE)


@dataclass(frozen=True)
class SpecAugment:
    """Bands of frequency and stretches of time hidden from a spectrogram (Park et al. 2019), each utterance's own.

    Attributes:
        bands: how many bands of mels are hidden.
        band: mels of a band, at most.
        stretches: how many stretches of time are hidden.
        stretch: frames of a stretch, at most.
        share: share of an utterance that one stretch hides at most; what keeps words of a short one audible.
    """

    bands: int = 2
    band: int = 27
    stretches: int = 2
    stretch: int = 40
    share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"augment.share ({self.share}) must be from 0 to 1")

    def enlarged(self) -> "SpecAugment":
        """With 2.5 times as many stretches, as CR-CTC wants its views (Yao et al. 2024)."""
        return replace(self, stretches=round(2.5 * self.stretches))

    def __call__(
        self,
        spectrogram: Float[Tensor, "batch frames mels"],
        frames: Int[Tensor, " batch"],
        seeds: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch frames mels"]:
        """A normalised spectrogram with the hidden parts at 0, their mean.

        Args:
            frames: how many frames each row has.
            seeds: what each row's masks are drawn from.
        """
        batch, time, mels = spectrogram.shape
        kept_frames, kept_mels = np.ones((batch, time), np.bool_), np.ones((batch, mels), np.bool_)
        for row, (length, seed) in enumerate(zip(frames.tolist(), seeds.tolist(), strict=True)):
            rng = np.random.default_rng(seed)
            _hide(kept_mels[row], self.bands, self.band, rng)
            _hide(kept_frames[row, :length], self.stretches, min(self.stretch, int(self.share * length)), rng)
        kept = torch.from_numpy(kept_frames[:, :, None] & kept_mels[:, None, :])
        return spectrogram * kept.to(spectrogram.device)


def _hide(
    kept: "np.ndarray[tuple[int], np.dtype[np.bool_]]", count: int, widest: int, rng: np.random.Generator
) -> None:
    for _ in range(count):
        width = int(rng.integers(0, min(widest, len(kept)) + 1))
        start = int(rng.integers(0, len(kept) - width + 1))
        kept[start : start + width] = False
