"""N-gram language models with back-off, compact enough to be served: sorted arrays, 20 bytes an n-gram."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

START, END, UNKNOWN = "<s>", "</s>", "<unk>"

_ROOT = 0  # the history without words
_LN_10 = math.log(10.0)

Rows: TypeAlias = npt.NDArray[np.int64]  # [n-grams of one order, order]: numbers of words
Logs: TypeAlias = npt.NDArray[np.float32]  # base 10, as ARPA files have them


class NGram:
    """P(word | history) with back-off (Katz 1987), walked from state to state.

    P(w | h) is the n-gram's own probability where h w was kept, and else backoff(h) P(w | h without its oldest word). A state is
    the longest end of the history that may still matter, as one number.

    The n-grams are a tree: node 0 is the empty history, the child of node h by word w stands at key h x words + w, and the
    nodes are numbered by order and then by key. So the keys are sorted, and finding a child is one binary search.

    Args:
        words: what the rows number; repeats are an error.
        rows: for each order from 1, its n-grams, oldest word first.
        log_probs: of the same, base 10.
        backoffs: of the same, base 10; 0 where an n-gram is the history of none.

    Raises:
        WrongGram: an n-gram stands there twice, or its beginning is not among the shorter ones.
    """

    def __init__(
        self, words: Sequence[str], rows: Sequence[Rows], log_probs: Sequence[Logs], backoffs: Sequence[Logs]
    ) -> None:
        self.words = tuple(words)
        self.order = len(rows)
        self._keys = np.full(1, -1, np.int64)
        self._suffixes = np.zeros(1, np.int32)
        self._log_probs = self._backoffs = np.zeros(1, np.float32)
        self.firsts = [1]  # the first node of each order, and one past the last node
        for order in range(self.order):
            self._add(rows[order], log_probs[order], backoffs[order])
        self._longest = self.firsts[self.order - 1]

    def __len__(self) -> int:
        return len(self._keys) - 1

    @property
    def start(self) -> int:
        """The state before the first word of a text."""
        return self._child(_ROOT, self._numbers[START]) if START in self._numbers else _ROOT

    def step(self, state: int, word: str) -> tuple[float, int]:
        """The natural logarithm of P(word | state), and the state after it; `END` closes a text."""
        number = self._numbers.get(word, self._unknown)
        if number < 0:
            return -math.inf, _ROOT
        log = 0.0
        while not (child := self._child(state, number)):
            if state == _ROOT:
                return -math.inf, _ROOT
            log += float(self._backoffs[state])
            state = int(self._suffixes[state])
        log += float(self._log_probs[child])
        return log * _LN_10, child if child < self._longest else int(self._suffixes[child])

    def score(self, words: Iterable[str]) -> float:
        """The natural logarithm of the probability of a whole text, its end included."""
        total, state = 0.0, self.start
        for word in (*words, END):
            log_prob, state = self.step(state, word)
            total += log_prob
        return total

    def perplexity(self, texts: Iterable[Sequence[str]]) -> float:
        """What a word costs, exp of its mean negative logarithm; the end of a text is one."""
        logs, words = 0.0, 0
        for text in texts:
            logs, words = logs + self.score(text), words + len(text) + 1
        return math.exp(-logs / max(1, words))

    def table(self, order: int) -> tuple[Rows, Logs, Logs]:
        """The n-grams of one order, their probabilities and back-offs, base 10."""
        nodes = np.arange(self.firsts[order - 1], self.firsts[order])
        columns, at = [], nodes
        for _ in range(order):
            at, word = np.divmod(self._keys[at], len(self.words))
            columns.append(word)
        return np.stack(columns[::-1], axis=1), self._log_probs[nodes], self._backoffs[nodes]

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def _unknown(self) -> int:
        return self._numbers.get(UNKNOWN, -1)

    def _child(self, node: int, word: int) -> int:
        key = node * len(self.words) + word
        at = int(self._keys.searchsorted(key))
        return at if at < len(self._keys) and self._keys[at] == key else _ROOT

    def _add(self, rows: Rows, log_probs: Logs, backoffs: Logs) -> None:
        parents = self._nodes(rows[:, :-1])
        if (lost := parents < 0).any():
            raise self._wrong(rows, int(lost.argmax()), "its beginning is not among the shorter ones")
        keys = parents * len(self.words) + rows[:, -1]
        order = np.argsort(keys, kind="stable")
        if (twice := np.diff(keys[order]) == 0).any():
            raise self._wrong(rows, int(order[1:][twice].min()), "it stands there twice")
        rows, keys = rows[order], keys[order]
        self._suffixes = np.concatenate([self._suffixes, self._ends(rows)])
        self._keys = np.concatenate([self._keys, keys])
        self._log_probs = np.concatenate([self._log_probs, log_probs[order].astype(np.float32)])
        self._backoffs = np.concatenate([self._backoffs, backoffs[order].astype(np.float32)])
        self.firsts.append(len(self._keys))

    def _wrong(self, rows: Rows, row: int, why: str) -> "WrongGram":
        gram = " ".join(self.words[word] for word in rows[row])
        return WrongGram(f"{len(rows[row])}-gram {gram!r}: {why}", rows.shape[1], row)

    def _ends(self, rows: Rows) -> npt.NDArray[np.int32]:
        found = np.zeros(len(rows), np.int64)  # the longest end that was kept; the empty one always is
        for first in range(rows.shape[1] - 1, 0, -1):
            nodes = self._nodes(rows[:, first:])
            found = np.where(nodes > 0, nodes, found)
        return found.astype(np.int32)

    def _nodes(self, rows: Rows) -> npt.NDArray[np.int64]:
        """The node of each row of words, -1 where there is none."""
        nodes = np.zeros(len(rows), np.int64)
        for column in rows.T:
            keys = nodes * len(self.words) + column
            at = self._keys.searchsorted(keys).clip(max=len(self._keys) - 1)
            nodes = np.where((nodes >= 0) & (self._keys[at] == keys), at, -1)
        return nodes


class WrongGram(ValueError):
    """An n-gram that cannot stand in the model, by its order and row."""

    def __init__(self, message: str, order: int, row: int) -> None:
        super().__init__(message)
        self.order, self.row = order, row


def as_log10(probabilities: npt.NDArray[np.floating[Any]]) -> Logs:
    """Logarithms to base 10 as ARPA files have them: -99 for what is impossible."""
    with np.errstate(divide="ignore"):
        logs: Logs = np.maximum(np.log10(probabilities), -99.0).astype(np.float32)
    return logs
