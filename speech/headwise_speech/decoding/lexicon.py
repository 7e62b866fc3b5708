"""The words that a beam may write, as a tree of tokens: a closed list, or any word at all."""

from collections.abc import Container, Iterable

from headwise.errors import InputError
from headwise_speech.text import SPACE, Vocabulary, normalise

ROOT = 0  # between words


class Lexicon:
    """A closed list of words. Nodes are numbers; `ROOT` stands between words.

    Args:
        words: the list; normalised, repeats allowed.
        vocabulary: the tokens of their spelling.

    Raises:
        InputError: there are no words, or one of them has a space or cannot be written with the vocabulary.
    """

    def __init__(self, words: Iterable[str], vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._children: list[dict[int, int]] = [{}]
        self._words = [""]  # the word that ends at a node, or ""
        self._known: dict[int, dict[int, int]] = {}  # moves from the nodes that were asked for
        for word in words:
            self._add(word)
        if len(self._words) == 1:
            raise InputError(
                "0 words in the closed list: give the words that the decoder may write, or decode greedily"
            )

    def inside(self, node: int) -> Container[int]:
        """The tokens that may follow."""
        return self._moves(node)

    def after(self, node: int, token: int) -> int:
        """The node after one of them."""
        return self._moves(node)[token]

    def word(self, node: int) -> str:
        """The word that may end at a node, "" where none does."""
        return self._words[node]

    def also(self, words: Iterable[str]) -> "Lexicon":
        """A list with more words; this one stays as it is."""
        longer = object.__new__(Lexicon)
        longer._vocabulary = self._vocabulary
        longer._children, longer._words, longer._known = self._children.copy(), self._words.copy(), {}
        for word in words:
            longer._add(word)
        return longer

    def _moves(self, node: int) -> dict[int, int]:
        if node not in self._known:
            moves = self._children[node]
            if node == ROOT or self._words[node]:
                space, tokens = self._vocabulary.space, self._vocabulary.tokens
                beginnings = {
                    token: child for token, child in self._children[ROOT].items() if tokens[token][0] == SPACE
                }
                moves = {**moves, **beginnings, **({} if space is None else {space: ROOT})}
            self._known[node] = moves
        return self._known[node]

    def _add(self, word: str) -> None:
        normal = normalise(word)
        if not normal or SPACE in normal:
            raise InputError(f"word {word!r} of the closed list: one word without a space is needed")
        node = ROOT
        for token in self._vocabulary.encode(normal):
            if token not in self._children[node]:
                # A dictionary of its own for every change: `also` shares all that it leaves as it is.
                self._children[node] = {**self._children[node], token: len(self._children)}
                self._children.append({})
                self._words.append("")
            node = self._children[node][token]
        self._words[node] = normal


class AnyWord:
    """Every sequence of tokens is a word: nodes are made as they are asked for."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._tokens = range(1, len(vocabulary))
        self._children: dict[tuple[int, int], int] = {}
        self._words = [""]

    def inside(self, node: int) -> Container[int]:
        """The tokens that may follow: all but the blank."""
        return self._tokens

    def after(self, node: int, token: int) -> int:
        """The node after one of them."""
        text = self._vocabulary.tokens[token]
        if text == SPACE:
            return ROOT
        start = ROOT if text[0] == SPACE else node
        if (start, token) not in self._children:
            self._children[start, token] = len(self._words)
            self._words.append(self._words[start] + text.lstrip(SPACE))
        return self._children[start, token]

    def word(self, node: int) -> str:
        """The letters up to a node."""
        return self._words[node]
