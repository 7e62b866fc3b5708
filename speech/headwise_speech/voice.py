"""Whether somebody speaks where words were read off: a voice is clear and never still, and stands out. NumPy alone.

A recogniser that never heard noise reads words off it, and not very clearly. What it read is kept where there is a voice, a
marked contrast, or no doubt.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headwise_speech.audio import SAMPLE_RATE

# Chosen on AN4's development set and one half of the noises; docs/decoding.md has the other half.
VOICED = 0.25  # of `voiced`
CONTRAST = 12.0  # dB of `contrast`
CLEARNESS = 0.97  # of what the recogniser heard

_EVERY = 4  # samples that are averaged into one: 4 kHz holds all that a pitch needs
_RATE = SAMPLE_RATE // _EVERY  # Hz
_HOP = _RATE // 100  # samples, 10 ms
_WINDOW = _RATE // 20  # samples, 50 ms: 3.5 periods of the lowest pitch
_LOWEST, _HIGHEST = 70, 400  # Hz
_LONGEST, _SHORTEST = _RATE // _LOWEST, _RATE // _HIGHEST  # samples of a period
_POINTS = 270  # of the transform: no less than window and longest period together, and quick
_CLEAR = 0.75  # of the autocorrelation at 0; noise of a wide band stays below
_STILL, _TORN = 0.002, 0.06  # of its logarithm in 10 ms; a tone's pitch moves less, and what is none jumps
_QUIET = 1e-3  # of the loudest frame's energy, 30 dB below
_SILENCE = 1e-7  # energy of a sample, -70 dB; below it there is nothing to hear
_ENOUGH = 6  # frames on end of a voice for a word, 60 ms
_AROUND = 4  # frames that a word may begin earlier and end later, 40 ms

Waveform = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Curve = npt.NDArray[np.floating[Any]]


def spoken(waveform: Waveform, words: Sequence[tuple[float, float]], clearness: float = 0.0) -> bool:
    """Whether the words of a recording may have been said.

    Args:
        waveform: [samples] of 16 kHz.
        words: start and end of each, in seconds.
        clearness: how clearly the recogniser heard them, from 0 to 1.
    """
    if not words:
        return False
    return clearness >= CLEARNESS or contrast(waveform, words) >= CONTRAST or voiced(waveform, words) >= VOICED


def voiced(waveform: Waveform, words: Sequence[tuple[float, float]]) -> float:
    """How much of a voice is in the words, from 0 to 1: the mean of their shares of 60 ms on end.

    A frame is of a voice where its pitch is clear, by its autocorrelation (Boersma 1993), and glides: tones and notes keep
    theirs, and in noises it jumps.
    """
    steady, gliding = _voice(waveform)
    spans = [(max(0, start - _AROUND), end + _AROUND) for start, end in _frames(words)]
    longest = [_longest(steady[start:end], gliding[start:end]) for start, end in spans]
    return float(np.minimum(longest, _ENOUGH).mean() / _ENOUGH)


def contrast(waveform: Waveform, words: Sequence[tuple[float, float]]) -> float:
    """By how many dB the words are louder, in the mean, than the median of what is around them; 0 where nothing is."""
    level = 10 * np.log10(_pitch(waveform)[0] + _SILENCE)
    inside = np.zeros(len(level), bool)
    for start, end in _frames(words):
        inside[start:end] = True
    if not inside.any() or (~inside).sum() < _ENOUGH:
        return 0.0
    return float(level[inside].mean() - np.median(level[~inside]))


def _frames(words: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    return [(round(100 * start), round(100 * end)) for start, end in words]


def _voice(waveform: Waveform) -> tuple[Flags, Flags]:
    """Frames of 10 ms whose pitch is clear and goes on from the one before; those of them whose pitch has moved."""
    energy, clearness, pitch = _pitch(waveform)
    clear = (clearness > _CLEAR) & (energy > _QUIET * energy.max()) & (energy > _SILENCE)
    moved = np.abs(np.diff(np.log(pitch), prepend=np.inf))
    steady = clear & np.roll(clear, 1) & (moved < _TORN)
    return steady, steady & (moved > _STILL)


def _pitch(waveform: Waveform) -> tuple[Curve, Curve, Curve]:
    """Energy of a sample, height of the autocorrelation's peak and its frequency in Hz, for each frame."""
    slow = waveform[: len(waveform) // _EVERY * _EVERY].reshape(-1, _EVERY).mean(axis=1)
    slow = np.pad(slow, (0, max(0, _WINDOW - len(slow))))
    frames = np.lib.stride_tricks.sliding_window_view(slow, _WINDOW)[::_HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    correlation = _autocorrelation(frames * _HANN)
    energy = correlation[:, 0]
    correlation = correlation / np.maximum(energy, 1e-20)[:, None] / _OF_HANN
    at = correlation[:, _SHORTEST : _LONGEST + 1].argmax(axis=1) + _SHORTEST
    each = np.arange(len(at))
    before, peak, after = (correlation[each, at + step] for step in (-1, 0, 1))
    aside = (0.5 * (before - after) / np.minimum(before - 2 * peak + after, -1e-9)).clip(-0.5, 0.5)
    return energy / _WINDOW, peak - 0.25 * (before - after) * aside, _RATE / (at + aside)


def _autocorrelation(frames: Curve) -> Curve:
    spectrum = np.fft.rfft(frames, _POINTS)
    return np.fft.irfft(spectrum.real**2 + spectrum.imag**2, _POINTS)[:, : _LONGEST + 2]


def _longest(steady: Flags, gliding: Flags) -> int:
    """The most gliding frames of a stretch that is steady throughout."""
    count = most = 0
    for goes_on, glides in zip(steady.tolist(), gliding.tolist(), strict=True):
        count = count + glides if goes_on else 0
        most = max(most, count)
    return most


_HANN = np.hanning(_WINDOW + 2)[1:-1].astype(np.float32)
_OF_HANN = (_autocorrelation(_HANN[None]) / _autocorrelation(_HANN[None])[:, :1])[0]
