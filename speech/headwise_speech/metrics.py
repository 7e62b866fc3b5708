"""Word and character error rate, always with their counts and an interval: AN4's test set is 773 words, and one is 0.13 %."""

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
import numpy as np
import numpy.typing as npt

from headwise.errors import InputError
from headwise_speech.text import normalise

_CONFIDENCE = 0.95
_COLUMNS = ("equal", "substitute", "delete", "insert")  # jiwer's words for the columns of the counts


@dataclass(frozen=True)
class ErrorRate:
    """Errors of a whole corpus over its reference units (words or characters), with a 95 % bootstrap interval."""

    rate: float
    low: float
    high: float
    hits: int
    substitutions: int
    deletions: int
    insertions: int
    utterances: int

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference(self) -> int:
        """How many units the references have."""
        return self.hits + self.substitutions + self.deletions

    def __str__(self) -> str:
        return (
            f"{self.rate:.2%} [{self.low:.2%}, {self.high:.2%}] {self.errors}/{self.reference} "
            f"({self.substitutions} sub, {self.deletions} del, {self.insertions} ins)"
        )


def word_error_rate(
    references: Sequence[str], hypotheses: Sequence[str], *, resamples: int = 1_000, seed: int = 0
) -> ErrorRate:
    """Word error rate of normalised hypotheses: (S + D + I) / reference words, over the corpus and not by utterance.

    A corpus whose references are all empty is divided by one: every word heard in silence is an error.

    Args:
        references: what was said.
        hypotheses: what was heard, aligned with `references`.
        resamples: draws of the bootstrap over utterances (Bisani and Ney 2004).
        seed: of those draws.

    Raises:
        InputError: there is nothing to score, or the two differ in length.
    """
    return _rate(word_counts(references, hypotheses), resamples, seed)


def character_error_rate(
    references: Sequence[str], hypotheses: Sequence[str], *, resamples: int = 1_000, seed: int = 0
) -> ErrorRate:
    """As `word_error_rate`, in characters, the spaces between words among them."""
    return _rate(character_counts(references, hypotheses), resamples, seed)


def word_counts(references: Sequence[str], hypotheses: Sequence[str]) -> npt.NDArray[np.int64]:
    """Hits, substitutions, deletions and insertions of words, a row an utterance [utterances, 4]: for paired tests."""
    return _counts(jiwer.process_words(*_normalised(references, hypotheses)))


def character_counts(references: Sequence[str], hypotheses: Sequence[str]) -> npt.NDArray[np.int64]:
    """As `word_counts`, in characters."""
    return _counts(jiwer.process_characters(*_normalised(references, hypotheses)))


def _normalised(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[list[str], list[str]]:
    if len(references) != len(hypotheses):
        raise InputError(f"{len(references)} references, {len(hypotheses)} hypotheses: one hypothesis each is needed")
    if not references:
        raise InputError("0 references: there is nothing to score")
    return [normalise(text) for text in references], [normalise(text) for text in hypotheses]


def _counts(alignment: jiwer.WordOutput | jiwer.CharacterOutput) -> npt.NDArray[np.int64]:
    counts = np.zeros((len(alignment.alignments), len(_COLUMNS)), np.int64)
    for row, chunks in zip(counts, alignment.alignments, strict=True):
        for chunk in chunks:
            spans = chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
            row[_COLUMNS.index(chunk.type)] += max(spans)
    return counts


def _rate(counts: npt.NDArray[np.int64], resamples: int, seed: int) -> ErrorRate:
    draw = np.random.default_rng(seed)
    rates = [_errors_per_unit(counts[draw.integers(len(counts), size=len(counts))]) for _ in range(resamples)]
    low, high = np.quantile(rates, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    hits, substitutions, deletions, insertions = map(int, counts.sum(axis=0))
    return ErrorRate(
        rate=_errors_per_unit(counts),
        low=float(low),
        high=float(high),
        hits=hits,
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        utterances=len(counts),
    )


def _errors_per_unit(counts: npt.NDArray[np.int64]) -> float:
    hits, substitutions, deletions, insertions = counts.sum(axis=0)
    return float((substitutions + deletions + insertions) / max(1, hits + substitutions + deletions))
