"""How sure a decoder is of each word."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headwise_speech.alignment import WordFrames
from headwise_speech.decoding import Hypothesis

HYPOTHESES = 16  # that a confidence is judged by


def confidences(words: Sequence[WordFrames], hypotheses: Sequence[Hypothesis]) -> list[float]:
    """How probable it is that each word was said, from 0 to 1.

    The share of the hypotheses' probability that has the word in its place (Wessel et al. 2001), times how clearly its tokens
    were heard. Of what was compared on AN4's development set this told right from wrong words best, and is calibrated as it is
    (docs/decoding.md).

    Args:
        words: of the text that was chosen, aligned.
        hypotheses: what was heard, that text among it or not.
    """
    if not words:
        return []
    scores = np.array([hypothesis.score for hypothesis in hypotheses])
    weights = np.exp(scores - scores.max())
    said = [word.word for word in words]
    shared = np.array([in_place(said, hypothesis.text.split()) for hypothesis in hypotheses])
    shares = weights / weights.sum() @ shared
    return [float(share * word.heard) for share, word in zip(shares, words, strict=True)]


def in_place(words: Sequence[str], others: Sequence[str]) -> list[bool]:
    """Which words stand in both texts, where the second is the first with as few edits as can be (Levenshtein 1966)."""
    start, end = 0, 0
    while start < min(len(words), len(others)) and words[start] == others[start]:
        start += 1
    while end < min(len(words), len(others)) - start and words[-1 - end] == others[-1 - end]:
        end += 1
    middle = _matched(words[start : len(words) - end], others[start : len(others) - end])
    return [*[True] * start, *middle, *[True] * end]


def _matched(words: Sequence[str], others: Sequence[str]) -> list[bool]:
    costs = _costs(words, others)
    matched = [False] * len(words)
    row, column = len(words), len(others)
    while row and column:
        same = words[row - 1] == others[column - 1]
        if costs[row, column] == costs[row - 1, column - 1] + (not same):
            row, column = row - 1, column - 1
            matched[row] = same
        elif costs[row, column] == costs[row - 1, column] + 1:
            row -= 1
        else:
            column -= 1
    return matched


def _costs(words: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.int64]:
    costs = np.add.outer(np.arange(len(words) + 1), np.arange(len(others) + 1))
    for row, word in enumerate(words, 1):
        for column, other in enumerate(others, 1):
            changed = costs[row - 1, column - 1] + (word != other)
            costs[row, column] = min(changed, costs[row - 1, column] + 1, costs[row, column - 1] + 1)
    return costs
