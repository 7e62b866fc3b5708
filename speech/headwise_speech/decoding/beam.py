"""CTC prefix beam search over a closed list of words or any word, with a language model and hot words."""

import math
from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Literal

import numpy as np

from headwise_speech.decoding.hotwords import HotWords
from headwise_speech.decoding.hypothesis import BLANK, Hypothesis, LogProbs, real_rows
from headwise_speech.decoding.lexicon import ROOT, AnyWord, Lexicon
from headwise_speech.decoding.ngram import END, NGram
from headwise_speech.text import SPACE, Vocabulary

_FADED, _SWOLLEN = 1e-100, 1e100  # outside probabilities are scaled, long before they leave what a float can hold
_FORGOTTEN = 20_000  # prefixes once tried; beyond it those that are not in the beam are let go


class PrefixBeam:
    """CTC prefix beam search (Hannun et al. 2014).

    The score of a text is log P(text | audio) + weight * log P(text) + bonus * words + the boosts of its hot words, where
    P(text | audio) sums over the alignments whose tokens spell it; spaces that part no words change nothing. With a closed list
    a word that the audio breaks off is left out.

    Args:
        vocabulary: the tokens of the log probabilities.
        words: the closed list of what may be written; any word by default. Words of hot phrases join it.
        language: of words, or of `vocabulary`'s tokens; none by default, and then every text is as likely as another.
        unit: which of the two. Words are scored where they end, tokens at once.
        width: how many beginnings of texts survive a frame.
        weight: of the language model.
        bonus: added for every word; above 0 it makes up for the language model's dislike of long texts.
        cut: a beginning less probable than this share of the best one does not survive a frame.

    Raises:
        InputError: `words` is empty, or a word has a space or cannot be written with the vocabulary.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        words: Iterable[str] | None = None,
        language: NGram | None = None,
        unit: Literal["word", "token"] = "word",
        width: int = 32,
        weight: float = 0.5,
        bonus: float = 0.0,
        cut: float = 1e-3,
    ) -> None:
        self.vocabulary = vocabulary
        self.lexicon = None if words is None else Lexicon(words, vocabulary)
        self.language, self.unit, self.weight, self.bonus = language, unit, weight, bonus
        self.width, self.cut = width, cut

    def __call__(self, log_probs: LogProbs, frames: int | None = None, *, hot: HotWords | None = None) -> Hypothesis:
        """The best text found.

        Args:
            log_probs: [frames, vocab].
            frames: how many of the rows are real, the rest being padding; all by default.
            hot: what to expect in this recording.
        """
        return self.nbest(log_probs, frames, count=1, hot=hot)[0]

    def nbest(
        self, log_probs: LogProbs, frames: int | None = None, *, count: int, hot: HotWords | None = None
    ) -> list[Hypothesis]:
        """The best texts found, the best one first, at least one and `count` at most."""
        rows = np.exp(real_rows(log_probs, len(self.vocabulary), frames).astype(np.float64))
        search = _Search(self, hot)
        for row, likely in zip(rows.tolist(), _likely(rows, search.cut), strict=True):
            search.hear(row, likely)
        return search.finished(count)


@dataclass(slots=True, eq=False)
class _History:
    """Finished words: the last of them, and those before it."""

    word: str
    before: "_History | None"
    language: int  # state of a model of words after them
    longer: dict[str, tuple["_History", float]] = field(
        default_factory=dict
    )  # by one more word, and what that is worth

    def words(self) -> list[str]:
        words, at = [], self
        while at.before:
            words.append(at.word)
            at = at.before
        return words[::-1]


@dataclass(slots=True, eq=False)
class _Prefix:
    """The beginning of a text: finished words, and a node of the lexicon."""

    history: _History
    node: int
    last: int  # token
    inside: Container[int]  # tokens that may follow
    language: int  # state of a model of tokens
    hot: int  # state of the hot words
    blank: float = 0.0  # probability of its alignments that end in a blank
    label: float = 0.0  # of those that end in its last token
    new_blank: float = 0.0  # the same, one frame later
    new_label: float = 0.0
    frame: int = -1  # which frame that is
    longer: dict[int, tuple["_Prefix", float]] = field(
        default_factory=dict
    )  # by one more token, and what that is worth


class _Search:
    """One recording, frame by frame. Plain floats: with a dozen prefixes a frame they are faster than arrays."""

    def __init__(self, beam: PrefixBeam, hot: HotWords | None) -> None:
        self._beam, self._hot, self._vocabulary = beam, hot, beam.vocabulary
        self._lexicon = _lexicon(beam, hot)
        self._begins = [token[0] == SPACE for token in beam.vocabulary.tokens]
        self._letters = [token.lstrip(SPACE) for token in beam.vocabulary.tokens]
        self._language = beam.language
        self._words = beam.language if beam.unit == "word" else None
        self._tokens = beam.language if beam.unit == "token" else None
        language = self._language.start if self._language else 0
        space = BLANK if beam.vocabulary.space is None else beam.vocabulary.space
        inside = self._lexicon.inside(ROOT)
        start = _Prefix(_History("", None, language), ROOT, space, inside, language, hot.start if hot else 0)
        # Hot words may make up for what is hardly heard, letter by letter.
        self.cut = beam.cut * math.exp(-max([0.0, *hot.phrases.values()] if hot else [0.0]))
        start.blank = 1.0
        self._prefixes, self._best = [start], start
        self._known = {(start.history, start.node): start}
        self._frame, self._scale = 0, 0.0

    def hear(self, row: list[float], likely: list[int]) -> None:
        """One frame: the probabilities of all tokens, and those of them that are worth a try, the likeliest first."""
        frame, silence, least, met = self._frame, row[BLANK], self._least(row), []
        for prefix in self._prefixes:
            blank, label = prefix.blank, prefix.label
            total, last, longer, inside = blank + label, prefix.last, prefix.longer, prefix.inside
            if prefix.frame != frame:
                prefix.frame, prefix.new_blank, prefix.new_label = frame, 0.0, 0.0
                met.append(prefix)
            prefix.new_blank += total * silence
            prefix.new_label += label * row[last]
            for token in likely:
                if total * row[token] < least:
                    break
                if token not in inside:
                    continue
                if token not in longer:
                    longer[token] = self._longer(prefix, token)
                child, worth = longer[token]
                if child.frame != frame:
                    child.frame, child.new_blank, child.new_label = frame, 0.0, 0.0
                    met.append(child)
                # A repeated token is a new one only after a blank.
                child.new_label += (blank if token == last else total) * row[token] * worth
        self._frame = frame + 1
        self._survive(met)

    def _least(self, row: list[float]) -> float:
        """What a prefix must have to survive the frame, at least: the share of what the best one surely has."""
        best = self._best
        return self.cut * ((best.blank + best.label) * row[BLANK] + best.label * row[best.last])

    def finished(self, count: int) -> list[Hypothesis]:
        """The best whole texts."""
        whole: defaultdict[_History, float] = defaultdict(float)
        broken: defaultdict[_History, float] = defaultdict(float)
        for prefix in self._prefixes:
            history, mass, totals = prefix.history, prefix.blank + prefix.label, whole
            if word := self._lexicon.word(prefix.node):
                history, worth = self._said(history, word)
                mass *= worth
            elif prefix.node != ROOT:
                totals = broken
            if mass > 0:
                totals[history] += mass * self._ended(prefix, history)
        best = nlargest(count, (whole or broken).items(), key=lambda item: item[1])
        return [self._hypothesis(*each) for each in best] or [Hypothesis("", -math.inf, -math.inf)]

    def _survive(self, met: list[_Prefix]) -> None:
        for prefix in met:
            prefix.blank, prefix.label = prefix.new_blank, prefix.new_label
        best = max(met, key=_mass)
        most = _mass(best)
        least = most * self._beam.cut
        kept = [prefix for prefix in met if prefix.blank + prefix.label >= least]
        if len(kept) > self._beam.width:
            kept = nlargest(self._beam.width, kept, key=_mass)
        if most and not _FADED < most < _SWOLLEN:
            for prefix in kept:
                prefix.blank, prefix.label = prefix.blank / most, prefix.label / most
            self._scale += math.log(most)
        self._prefixes, self._best = kept, best
        if len(self._known) > _FORGOTTEN:
            self._known = {(prefix.history, prefix.node): prefix for prefix in kept}
            for prefix in kept:
                prefix.longer = {}

    def _longer(self, prefix: _Prefix, token: int) -> tuple[_Prefix, float]:
        node, begins, letters = self._lexicon.after(prefix.node, token), self._begins[token], self._letters[token]
        history, language, hot, worth = prefix.history, prefix.language, prefix.hot, 1.0
        if begins and prefix.node != ROOT:
            history, worth = self._said(history, self._lexicon.word(prefix.node))
        if letters:
            follows = bool(history.word) and (begins or prefix.node == ROOT)
            if self._tokens:
                log_prob, language = self._written(language, token, parted=follows and not begins)
                worth *= math.exp(self._beam.weight * log_prob)
            if self._hot:
                edge, hot = self._hot.edge(hot) if follows else (0.0, hot)
                gain, hot = self._hot.step(hot, letters)
                worth *= math.exp(edge + gain)
        key = history, node
        if key not in self._known:
            self._known[key] = _Prefix(history, node, token, self._lexicon.inside(node), language, hot)
        return self._known[key], worth

    def _written(self, state: int, token: int, parted: bool) -> tuple[float, int]:
        assert self._tokens
        symbols, space = self._vocabulary.symbols, self._vocabulary.space
        log_prob = 0.0
        if parted and space is not None:
            log_prob, state = self._tokens.step(state, symbols[space])
        more, state = self._tokens.step(state, symbols[token])
        return log_prob + more, state

    def _said(self, history: _History, word: str) -> tuple[_History, float]:
        if word not in history.longer:
            log_prob, language = self._words.step(history.language, word) if self._words else (0.0, 0)
            worth = math.exp(self._beam.weight * log_prob + self._beam.bonus)
            history.longer[word] = _History(word, history, language), worth
        return history.longer[word]

    def _ended(self, prefix: _Prefix, history: _History) -> float:
        log = 0.0
        if self._language:
            state = prefix.language if self._tokens else history.language
            log += self._beam.weight * self._language.step(state, END)[0]
        if self._hot and history.word:
            log += self._hot.close(prefix.hot)
        return math.exp(log)

    def _hypothesis(self, history: _History, mass: float) -> Hypothesis:
        beam, words = self._beam, history.words()
        text, score = SPACE.join(words), math.log(mass) + self._scale
        language = 0.0
        if self._language:
            language = self._language.score(words if self._words else self._vocabulary.written(text))
        beside = beam.weight * language + beam.bonus * len(words) + (self._hot.score(text) if self._hot else 0.0)
        return Hypothesis(text, score, score - beside, language)


def _lexicon(beam: PrefixBeam, hot: HotWords | None) -> Lexicon | AnyWord:
    if beam.lexicon is None:
        return AnyWord(beam.vocabulary)
    return beam.lexicon.also(hot.words) if hot else beam.lexicon


def _mass(prefix: _Prefix) -> float:
    return prefix.blank + prefix.label


def _likely(rows: LogProbs, least: float) -> list[list[int]]:
    """The tokens of each frame but the blank, from the likeliest to the last that is not below `least`."""
    order = np.argsort(-rows[:, 1:], axis=1, kind="stable") + 1
    counts = (rows[:, 1:] >= least).sum(axis=1)
    return [tokens[:count] for tokens, count in zip(order.tolist(), counts.tolist(), strict=True)]
