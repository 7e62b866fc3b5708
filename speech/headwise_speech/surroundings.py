"""Noise and rooms: training utterances as they would sound elsewhere, by draws that follow from each one's seed alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from headwise.errors import InputError

SUFFIXES = {".wav", ".flac", ".ogg", ".mp3"}
KEPT = 256  # recordings that stay decoded in memory


@dataclass(frozen=True)
class Surroundings:
    """Where training utterances seem to be spoken: each in a room and beside a noise, or not, as its seed says.

    Attributes:
        noises: a folder of recorded noises, in any folders below it; empty for none.
        rooms: a folder of room impulse responses; empty for none.
        share: share of the utterances that get a noise, and of those that get a room.
        low: signal-to-noise ratio in dB, at least.
        high: at most.
    """

    noises: str = ""
    rooms: str = ""
    share: float = 0.5
    low: float = 5.0
    high: float = 25.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"surroundings.share ({self.share}) must be from 0 to 1")
        if not self.low <= self.high:
            raise InputError(f"surroundings.low ({self.low}) must not be above surroundings.high ({self.high})")
        for name in ("noises", "rooms"):
            if (folder := getattr(self, name)) and not Path(folder).is_dir():
                raise InputError(f"surroundings.{name} ({folder}): no such folder")

    def __call__(self, waveform: Float[Tensor, " samples"], seed: int) -> Float[Tensor, " samples"]:
        """An utterance in the surroundings that its seed draws, as long and within -1..1 as before.

        Raises:
            InputError: a folder is not there, holds no recording, or one that cannot be read.
        """
        if not (self.noises or self.rooms):
            return waveform
        rng = np.random.default_rng([seed, 1])  # 0 would be what hides parts of its spectrogram
        room, noise = rng.random(2) < self.share
        if room and (path := _any(self._rooms, rng)):
            waveform = reverberate(waveform, _recording(path))
        if noise and (path := _any(self._noises, rng)):
            ratio = rng.uniform(self.low, self.high)
            waveform = mix(waveform, _stretch(_recording(path), len(waveform), rng), ratio)
        return waveform / waveform.abs().max().clamp(min=1.0)

    @cached_property
    def _rooms(self) -> Sequence[Path]:
        return _recordings(self.rooms, "rooms")

    @cached_property
    def _noises(self) -> Sequence[Path]:
        return _recordings(self.noises, "noises")


def mix(speech: Float[Tensor, " samples"], noise: Float[Tensor, " samples"], ratio: float) -> Float[Tensor, " samples"]:
    """Speech and noise, whose powers have a ratio of so many decibels: 10 log10(speech / noise); silence stays as it is."""
    powers = speech.square().mean(), noise.square().mean()
    if not all(powers):
        return speech
    return speech + noise * (powers[0] / powers[1] / 10 ** (ratio / 10)).sqrt()


def reverberate(speech: Float[Tensor, " samples"], response: Float[Tensor, " length"]) -> Float[Tensor, " samples"]:
    """Speech in a room, given its impulse response (Ko et al. 2017): as loud and as long as before, and in time with it."""
    from torchaudio.functional import fftconvolve

    wet: Tensor = fftconvolve(speech, response[int(response.abs().argmax()) :])[
        : len(speech)
    ]  # the direct sound comes first
    return wet * (speech.square().sum() / wet.square().sum().clamp(min=1e-12)).sqrt()


def _recordings(folder: str, name: str) -> Sequence[Path]:
    if not folder:
        return ()
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"surroundings.{name} ({folder}): no recordings there ({', '.join(sorted(SUFFIXES))})")
    return found


def _any(paths: Sequence[Path], rng: np.random.Generator) -> Path | None:
    return paths[int(rng.integers(len(paths)))] if paths else None


@lru_cache(KEPT)
def _recording(path: Path) -> Tensor:
    # Who trains without surroundings need not be able to read recordings.
    from headwise_speech.audio import decode

    return torch.from_numpy(decode(path))


def _stretch(noise: Tensor, samples: int, rng: np.random.Generator) -> Tensor:
    # Any part of it, from the beginning again after its end.
    start = int(rng.integers(len(noise)))
    return noise.roll(-start).repeat(-(-samples // len(noise)))[:samples]
