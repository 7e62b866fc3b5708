"""An n-gram language model from texts."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from headwise_speech.decoding.ngram import END, START, UNKNOWN, NGram, as_log10

_Gram: TypeAlias = tuple[str, ...]  # oldest word first
_Discounts: TypeAlias = tuple[float, float, float, float]  # of an n-gram counted 0, 1, 2, 3 or more times

_FEW: _Discounts = (0.0, 0.5, 1.0, 1.5)  # where there are too few texts to estimate them


def kneser_ney(texts: Iterable[Sequence[str]], order: int) -> NGram:
    """Interpolated Kneser-Ney smoothing with three discounts (Chen and Goodman 1999, section 4.1.6).

    P(w | h) = (c(hw) - D(c(hw))) / c(h) + gamma(h) P(w | h without its oldest word), and without a history every word starts from
    the same share. Below the highest order c(hw) is the number of different words before hw, but the plain count where a text
    begins. `UNKNOWN` is a word of count 0. On AN4 it predicts better than Witten and Bell's smoothing (docs/decoding.md).

    Args:
        texts: the training texts, each its words (or characters) in order.
        order: of the longest n-grams.

    Raises:
        ValueError: `order` is below 1, there are no texts, or one of them holds an edge or the unknown word itself.
    """
    if order < 1:
        raise ValueError(f"order ({order}) must be at least 1")
    plain = _counts(texts, order)
    words = sorted({word for (word,) in plain[0]} | {UNKNOWN})
    probabilities: list[dict[_Gram, float]] = [{(): 1 / len(words)}]
    backoffs: list[dict[_Gram, float]] = []
    for counts in _continuations(plain):
        discounts = _discounts(counts)
        followers: defaultdict[_Gram, Counter[str]] = defaultdict(Counter)
        for gram, count in counts.items():
            followers[gram[:-1]][gram[-1]] = count
        lower, weights, current = probabilities[-1], {}, {}
        for history, counted in followers.items():
            total = sum(counted.values())
            weights[history] = sum(discounts[min(count, 3)] for count in counted.values()) / total
            for word in counted if history else words:
                count = counted[word]
                shorter = lower[(*history[1:], word)] if history else lower[()]
                kept = (count - discounts[min(count, 3)]) / total
                current[*history, word] = kept + weights[history] * shorter
        probabilities.append(current)
        backoffs.append(weights)
    probabilities[1][START,] = 0.0
    return _model([START, *words], probabilities[1:], [*backoffs[1:], {}])


def _counts(texts: Iterable[Sequence[str]], order: int) -> list[Counter[_Gram]]:
    counts: list[Counter[_Gram]] = [Counter() for _ in range(order)]
    for text in texts:
        if taken := {START, END, UNKNOWN} & set(text):
            raise ValueError(f"text {' '.join(text)!r} holds {taken.pop()}, which stands for something else")
        words = (START, *text, END)
        for length, found in enumerate(counts, 1):
            # A text's beginning is a history and never a word that follows.
            found.update(words[at : at + length] for at in range(length == 1, len(words) - length + 1))
    if not counts[0]:
        raise ValueError("0 texts: a language model is estimated from at least one")
    return counts


def _continuations(plain: Sequence[Counter[_Gram]]) -> list[Counter[_Gram]]:
    counts = []
    for shorter, longer in pairwise(plain):
        before = Counter(gram[1:] for gram in longer)
        before.update({gram: count for gram, count in shorter.items() if gram[0] == START})
        counts.append(before)
    return [*counts, plain[-1]]


def _discounts(counts: Mapping[_Gram, int]) -> _Discounts:
    frequencies = Counter(counts.values())
    once, twice, thrice, four = (frequencies[count] for count in (1, 2, 3, 4))
    if not (once and twice and thrice and four):
        return _FEW
    share = once / (once + 2 * twice)
    found = (0.0, 1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * four / thrice)
    return found if all(0 <= discount <= count for count, discount in enumerate(found)) else _FEW


def _model(
    words: Sequence[str], probabilities: Sequence[Mapping[_Gram, float]], backoffs: Sequence[Mapping[_Gram, float]]
) -> NGram:
    numbers = {word: number for number, word in enumerate(words)}
    rows, logs, weights = [], [], []
    for probability, backoff in zip(probabilities, backoffs, strict=True):
        rows.append(np.array([[numbers[word] for word in gram] for gram in probability], np.int64))
        logs.append(as_log10(np.array(list(probability.values()))))
        weights.append(as_log10(np.array([backoff.get(gram, 1.0) for gram in probability])))
    return NGram(words, rows, logs, weights)
