"""Hot words: phrases that a decoder is told to expect; an automaton finds them in a text as it grows (Aho and Corasick 1975)."""

from collections import deque
from collections.abc import Mapping
from pathlib import Path

from headwise.errors import InputError, NotFound
from headwise_speech.text import Vocabulary, normalise

BOOST = 1.0  # natural logarithm for each letter of a phrase; chosen on AN4's development set, see docs/decoding.md
STRONGEST = 500.0  # for a whole phrase; what is far greater overflows
MOST = 1_000  # phrases for one recording
_LENT = 20.0  # at most; with it a beginning outlives any other, and no search can be spoilt by what it has to give back

_ROOT = 0
_EDGE = " "  # of a word; in a text every word has one before and one after it


class HotWords:
    """Phrases, each with a boost.

    Wherever a phrase stands in a text as whole words, the text's score is greater by the boost for each letter of the phrase;
    occurrences may overlap, and each counts. While a phrase is being said its part so far is lent to the text, so that the
    search does not lose it, and taken back when the text goes on otherwise: a finished text is scored by its phrases alone.

    Args:
        boosts: natural logarithms for each letter, by phrase; below 0 to make a phrase unlikely.
        vocabulary: what the decoder writes with.

    Raises:
        InputError: a phrase is empty or cannot be written with the vocabulary, a boost is out of bounds, or there are too many.
    """

    def __init__(self, boosts: Mapping[str, float], vocabulary: Vocabulary) -> None:
        if len(boosts) > MOST:
            raise InputError(f"hot words: {len(boosts)} phrases, at most {MOST} can be expected at once")
        self.phrases = {_checked(phrase, boost, vocabulary): boost for phrase, boost in boosts.items()}
        self._next: list[dict[str, int]] = [{}]
        self._gains = [0.0]  # of the phrases that end at a node
        self._lent = [0.0]  # for a phrase that has come as far as a node
        for phrase, boost in self.phrases.items():
            self._add(phrase, boost)
        self._fallbacks = self._linked()
        self._moves: dict[tuple[int, str], tuple[float, int]] = {}
        self.start = self.edge(_ROOT)[1]

    @property
    def words(self) -> list[str]:
        """Every word of a phrase, once."""
        return sorted({word for phrase in self.phrases for word in phrase.split()})

    def step(self, state: int, letters: str) -> tuple[float, int]:
        """What more letters of a word add to the score of a text, and the state after them."""
        if (state, letters) not in self._moves:
            self._moves[state, letters] = self._moved(state, letters)
        return self._moves[state, letters]

    def edge(self, state: int) -> tuple[float, int]:
        """What the end of a word adds, and the state after it."""
        return self.step(state, _EDGE)

    def close(self, state: int) -> float:
        """What the end of the text adds, which ends its last word."""
        gain, after = self.edge(state)
        return gain - self._lent[after]

    def score(self, text: str) -> float:
        """What the phrases add to a whole text."""
        if not text:
            return 0.0
        gain, state = self._moved(self.start, text)
        return gain + self.close(state)

    def _moved(self, state: int, letters: str) -> tuple[float, int]:
        at, gain = state, 0.0
        for letter in letters:
            while letter not in self._next[at] and at != _ROOT:
                at = self._fallbacks[at]
            at = self._next[at].get(letter, _ROOT)
            gain += self._gains[at]
        return gain + self._lent[at] - self._lent[state], at

    def _add(self, phrase: str, boost: float) -> None:
        node, said = _ROOT, 0.0
        for letter in f"{_EDGE}{phrase}":
            node = self._child(node, letter)
            said += boost * (letter != _EDGE)
            self._lent[node] = max(self._lent[node], min(said, _LENT))
        self._gains[self._child(node, _EDGE)] += said  # no longer lent but given

    def _child(self, node: int, letter: str) -> int:
        if letter not in self._next[node]:
            self._next[node][letter] = len(self._next)
            self._next.append({})
            self._gains.append(0.0)
            self._lent.append(0.0)
        return self._next[node][letter]

    def _linked(self) -> list[int]:
        """The longest other beginning of a phrase that each node's letters end with."""
        fallbacks = [_ROOT] * len(self._next)
        waiting = deque([_ROOT])
        while waiting:
            node = waiting.popleft()
            for letter, child in self._next[node].items():
                waiting.append(child)
                at = node
                while at != _ROOT:
                    at = fallbacks[at]
                    if letter in self._next[at]:
                        fallbacks[child] = self._next[at][letter]
                        break
                self._gains[child] += self._gains[fallbacks[child]]
                self._lent[child] = max(self._lent[child], self._lent[fallbacks[child]])
        return fallbacks


def read_hotwords(path: Path) -> dict[str, float]:
    """The phrases of a file, as `parse_hotwords` takes them.

    Raises:
        NotFound: there is no such file.
        InputError: a line cannot be used.
    """
    if not path.is_file():
        raise NotFound(f"{path}: no such file of hot words")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    return parse_hotwords(text, str(path))


def parse_hotwords(text: str, name: str = "hotwords") -> dict[str, float]:
    """Phrases, one a line, each with its boost after a tab or with `BOOST`.

    Args:
        text: the lines; empty ones are skipped.
        name: what messages call it.

    Raises:
        InputError: a boost is no number.
    """
    boosts = {}
    for number, line in enumerate(text.splitlines(), 1):
        phrase, _, boost = line.strip().partition("\t")
        if phrase:
            try:
                boosts[phrase] = float(boost) if boost else BOOST
            except ValueError as error:
                raise InputError(f"{name}, line {number}: boost {boost[:40]!r} is not a number") from error
    return boosts


def _checked(phrase: str, boost: float, vocabulary: Vocabulary) -> str:
    normal = normalise(phrase)
    if not normal:
        raise InputError(f"hot words: {phrase[:40]!r} has no words; leave it out")
    most = STRONGEST / len(normal)
    if not abs(boost) <= most:
        raise InputError(
            f"hot words: the boost of {phrase[:40]!r} is {boost:g} a letter; it can be {-most:.3g} to {most:.3g}"
        )
    vocabulary.encode(normal)
    return normal
