"""What a decoder answers."""

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from headwise_speech.decoding.hotwords import HotWords

LogProbs: TypeAlias = npt.NDArray[np.floating[Any]]  # [frames, vocab]

BLANK = 0


@dataclass(frozen=True)
class Hypothesis:
    """What a decoder heard; logarithms are natural."""

    text: str
    score: float  # what it was chosen by
    acoustic: float  # log P(text | audio), of the alignments that the decoder followed
    language: float = 0.0  # log P(text), unweighted; 0 without a language model


class Decode(Protocol):
    """How log probabilities become text."""

    def __call__(self, log_probs: LogProbs, frames: int | None = None, *, hot: HotWords | None = None) -> Hypothesis:
        """The best text found."""

    def nbest(
        self, log_probs: LogProbs, frames: int | None = None, *, count: int, hot: HotWords | None = None
    ) -> list[Hypothesis]:
        """The best texts found, the best one first."""


def real_rows(log_probs: LogProbs, vocab: int, frames: int | None) -> LogProbs:
    """The rows that are not padding.

    Raises:
        ValueError: they are no log probabilities of that vocabulary.
    """
    if log_probs.ndim != 2 or log_probs.shape[1] != vocab:
        raise ValueError(f"log_probs of shape {log_probs.shape}: [frames, {vocab}] is needed, one row a frame")
    rows = log_probs[:frames]
    if np.isnan(rows).any():
        raise ValueError(f"log_probs: frame {np.isnan(rows).any(axis=1).argmax()} holds NaN; the model is broken")
    return rows
