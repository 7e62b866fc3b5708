"""From CTC log probabilities to text: greedy, or a beam over the words of a closed list. No torch: the server decodes too.

Token 0 is the blank. An alignment gives one token a frame; merging its repeats and then removing its blanks leaves its text
(Graves et al. 2006), and the probability of a text is the sum over all of its alignments.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from heapq import nlargest
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from headwise.errors import InputError
from headwise_speech.text import SPACE, Vocabulary, normalise

_BLANK = 0
_ROOT = 0  # node of the trie; also the history without words
_EDGE = ""  # stands before the first and after the last word of a text
_FADED = 1e-100  # below it probabilities are scaled up, long before they vanish at 1e-308


_Beam = dict[tuple[int, int], list[float]]  # (history, node of the trie) -> probability ending in a blank, in the label


@dataclass(frozen=True)
class Hypothesis:
    """What a decoder heard."""

    text: str
    score: float  # natural logarithm; of the best alignment (greedy) or of the sum over alignments (beam)


def greedy(log_probs: npt.NDArray[np.floating[Any]], vocabulary: Vocabulary, frames: int | None = None) -> Hypothesis:
    """The text of the likeliest alignment.

    Args:
        log_probs: [frames, vocab].
        vocabulary: its characters.
        frames: how many of the rows are real, the rest being padding; all by default.
    """
    rows = _real(log_probs, len(vocabulary), frames)
    best = rows.argmax(axis=1)
    changed = np.flatnonzero(np.diff(best, prepend=-1))
    text = SPACE.join(vocabulary.decode(best[changed].tolist()).split())
    return Hypothesis(text, float(rows[np.arange(len(rows)), best].sum(dtype=np.float64)))


@dataclass(frozen=True)
class WordPairs:
    """How often words and pairs of neighbours stand in training texts: a small language model, plain JSON as it is.

    P(word | previous) = (pairs(previous, word) + followers(previous) P(word)) / (pairs(previous) + followers(previous))
    (Witten and Bell 1991), where followers counts the different words seen after `previous` and P(word) is the word's share,
    one added to every count and one left for a word never seen. "" stands for the edges of a text.
    """

    counts: Mapping[str, int]  # word -> count; "" counts the texts
    pairs: Mapping[str, Mapping[str, int]]  # previous -> word -> count

    @classmethod
    def of(cls, texts: Iterable[str]) -> "WordPairs":
        """The counts of training texts."""
        counts: Counter[str] = Counter()
        pairs: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            words = [_EDGE, *normalise(text).split(), _EDGE]
            counts.update(words[1:])
            for previous, word in pairwise(words):
                pairs[previous][word] += 1
        return cls(dict(counts), {previous: dict(followers) for previous, followers in pairs.items()})

    def log_prob(self, word: str, previous: str) -> float:
        """Natural logarithm of P(word | previous), either of them "" at the edge of a text."""
        share = (self.counts.get(word, 0) + 1) / (self._total + len(self.counts) + 1)
        seen = self.pairs.get(previous, {})
        backoff = len(seen) or 1
        return math.log((seen.get(word, 0) + backoff * share) / (self._seen.get(previous, 0) + backoff))

    @cached_property
    def _total(self) -> int:
        return sum(self.counts.values())

    @cached_property
    def _seen(self) -> dict[str, int]:
        return {previous: sum(followers.values()) for previous, followers in self.pairs.items()}


class LexiconBeam:
    """CTC prefix beam search (Hannun et al. 2014) in which every word is one of a closed list.

    The score of a text is log P(text | audio) + weight * log P(text) + bonus * words. Words are parted by one space; a
    space after the last one is silence and changes nothing. A word that the audio breaks off is left out.

    Args:
        words: the list; normalised, repeats allowed.
        vocabulary: the characters of the log probabilities.
        width: how many beginnings of texts survive a frame.
        pairs: a language model of the words; none by default, and then every text is as likely as another.
        weight: of the language model.
        bonus: added for every word; above 0 it makes up for the language model's dislike of long texts.
        floor: a character less probable than this in a frame is not tried there.

    Raises:
        InputError: there are no words, or one of them has a space or a character that the vocabulary lacks.
    """

    def __init__(
        self,
        words: Iterable[str],
        vocabulary: Vocabulary,
        *,
        width: int = 32,
        pairs: WordPairs | None = None,
        weight: float = 0.5,
        bonus: float = 0.0,
        floor: float = 1e-5,
    ) -> None:
        self._vocabulary = vocabulary
        self._width = width
        self._pairs = pairs
        self._weight = weight
        self._bonus = bonus
        self._floor = floor
        self._factors: dict[tuple[str, str], float] = {}
        self._trie = _Trie(vocabulary.space)
        for word in dict.fromkeys(map(normalise, words)):
            if not word or SPACE in word:
                raise InputError(f"word {word!r} of the closed list: one word without a space is needed")
            self._trie.add(word, vocabulary.encode(word))
        if len(self._trie.children) == 1:
            raise InputError(
                "0 words in the closed list: give the words that the decoder may write, or decode greedily"
            )

    def __call__(self, log_probs: npt.NDArray[np.floating[Any]], frames: int | None = None) -> Hypothesis:
        """The best text found, and its score.

        Args:
            log_probs: [frames, vocab].
            frames: how many of the rows are real, the rest being padding; all by default.
        """
        rows = np.exp(_real(log_probs, len(self._vocabulary), frames).astype(np.float64))
        histories = _Histories()
        beam: _Beam = {(_ROOT, _ROOT): [1.0, 0.0]}
        scale = 0.0
        for row, tried in zip(rows.tolist(), rows >= self._floor, strict=True):
            beam = self._pruned(self._extended(beam, row, np.flatnonzero(tried).tolist(), histories))
            best = max(map(sum, beam.values()))
            if 0.0 < best < _FADED:
                beam = {prefix: [blank / best, label / best] for prefix, (blank, label) in beam.items()}
                scale += math.log(best)
        totals = self._finished(beam, histories)
        history = max(totals, key=totals.__getitem__)
        score = math.log(totals[history]) + scale if totals[history] else -math.inf
        return Hypothesis(SPACE.join(histories.words(history)), score)

    def _extended(self, beam: "_Beam", row: list[float], tried: list[int], histories: "_Histories") -> "_Beam":
        # Plain floats and dicts: with a few dozen short-lived prefixes a frame they are faster than arrays.
        trie, space = self._trie, self._vocabulary.space
        may_part = space in tried
        longer: _Beam = {}
        for prefix, (blank, label) in beam.items():
            history, node = prefix
            last, children, total = trie.token[node], trie.children[node], blank + label
            same = longer.setdefault(prefix, [0.0, 0.0])
            same[0] += total * row[_BLANK]
            same[1] += label * row[last]
            for token in tried:
                if token in children:
                    # A repeated character is a new one only after a blank.
                    mass = blank if token == last else total
                    longer.setdefault((history, children[token]), [0.0, 0.0])[1] += mass * row[token]
            word = trie.word[node]
            if word and may_part:
                mass = total * row[space] * self._factor(histories.last(history), word)
                longer.setdefault((histories.longer(history, word), _ROOT), [0.0, 0.0])[1] += mass
        return longer

    def _pruned(self, beam: "_Beam") -> "_Beam":
        if len(beam) <= self._width:
            return beam
        return dict(nlargest(self._width, beam.items(), key=_mass))

    def _finished(self, beam: "_Beam", histories: "_Histories") -> dict[int, float]:
        whole: defaultdict[int, float] = defaultdict(float)
        broken: defaultdict[int, float] = defaultdict(float)
        for (history, node), (blank, label) in beam.items():
            mass, totals, word = blank + label, whole, self._trie.word[node]
            if not mass:
                continue
            if word:
                mass *= self._factor(histories.last(history), word)
                history = histories.longer(history, word)
            elif node != _ROOT:
                totals = broken
            totals[history] += mass * self._factor(histories.last(history), _EDGE)
        return whole or broken or {_ROOT: 0.0}

    def _factor(self, previous: str, word: str) -> float:
        key = previous, word
        if key not in self._factors:
            log_prob = self._pairs.log_prob(word, previous) if self._pairs else 0.0
            self._factors[key] = math.exp(self._weight * log_prob + (self._bonus if word else 0.0))
        return self._factors[key]


class _Trie:
    """The words as a tree of tokens; lists are indexed by node."""

    def __init__(self, space: int) -> None:
        self.children: list[dict[int, int]] = [{}]
        self.token: list[int] = [space]  # that leads to the node; words begin after a space
        self.word: list[str] = [""]  # that ends at the node, or ""

    def add(self, word: str, tokens: Iterable[int]) -> None:
        node = _ROOT
        for token in tokens:
            if token not in self.children[node]:
                self.children[node][token] = len(self.children)
                self.children.append({})
                self.token.append(token)
                self.word.append("")
            node = self.children[node][token]
        self.word[node] = word


class _Histories:
    """Sequences of finished words as numbers, so that a prefix is a pair of numbers however long the audio is."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, str]] = [(_ROOT, _EDGE)]  # the history before, and its last word
        self._numbers: dict[tuple[int, str], int] = {}

    def longer(self, history: int, word: str) -> int:
        step = history, word
        if step not in self._numbers:
            self._numbers[step] = len(self._steps)
            self._steps.append(step)
        return self._numbers[step]

    def last(self, history: int) -> str:
        return self._steps[history][1]

    def words(self, history: int) -> list[str]:
        words = []
        while history != _ROOT:
            history, word = self._steps[history]
            words.append(word)
        return words[::-1]


def _mass(item: tuple[tuple[int, int], list[float]]) -> float:
    return item[1][0] + item[1][1]


def _real(log_probs: npt.NDArray[np.floating[Any]], vocab: int, frames: int | None) -> npt.NDArray[np.floating[Any]]:
    if log_probs.ndim != 2 or log_probs.shape[1] != vocab:
        raise ValueError(f"log_probs of shape {log_probs.shape}: [frames, {vocab}] is needed, one row a frame")
    rows = log_probs[:frames]
    if np.isnan(rows).any():
        raise ValueError(f"log_probs: frame {np.isnan(rows).any(axis=1).argmax()} holds NaN; the model is broken")
    return rows
