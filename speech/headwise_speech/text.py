"""Transcripts as a recogniser writes them, and the tokens it writes with."""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from headwise.errors import InputError, NotFound
from headwise.files import replacing

BLANK = "<blank>"
FORM = (
    "NFC, upper case, plain apostrophes, digits as they are"  # what `normalise` makes; it travels with every vocabulary
)
SPACE = " "

_APOSTROPHES = str.maketrans("’ʼ", "''")


def normalise(text: str) -> str:
    """The one form of a transcript that training, scoring and serving share.

    NFC, upper case, a plain apostrophe, other punctuation and symbols a space, spaces collapsed. Digits stay digits, since
    how they are read is a matter of the language. Applying it twice changes nothing.

    Example:
        normalise(" Don’t stop -- twenty-one!") == "DON'T STOP TWENTY ONE"
    """
    # Upper case may decompose ("ΐ") and a joiner may part a letter from its accent, so the composition is done again last.
    upper = unicodedata.normalize("NFC", text).upper().translate(_APOSTROPHES)
    words = "".join(map(_kept, upper)).split()
    return unicodedata.normalize("NFC", SPACE.join(word for word in words if word.strip("'")))


def _kept(character: str) -> str:
    if character == "'":
        return character
    category = unicodedata.category(character)
    if category == "Cf":  # soft hyphens and joiners stand inside a word
        return ""
    return SPACE if category[0] in "PSCZ" else character


@dataclass(frozen=True)
class Vocabulary:
    """What a recogniser writes with: characters, pieces of words, or whole words. Token 0 is the CTC blank.

    A token that begins with a space begins a word, and the space by itself does nothing else. A text is its tokens in a row,
    spaces collapsed.

    Args:
        tokens: the blank, then each once.
        merges: pairs of tokens that are written as one, in the order of their use (Sennrich et al. 2016); none for
            characters and words.
    """

    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.tokens or self.tokens[0] != BLANK:
            raise InputError(f"vocabulary: token 0 is {self.tokens[:1]}, it must be {BLANK!r}")
        if odd := [token for token in self.tokens[1:] if not token or SPACE in token[1:]]:
            raise InputError(f"vocabulary: token {odd[0]!r} is no part of a word with at most a space before it")
        if len(self._index) < len(self.tokens):
            raise InputError(
                f"vocabulary: {len(self.tokens)} tokens, {len(self._index)} different ones; each stands once"
            )
        if not any(token[0] == SPACE for token in self.tokens[1:]):
            raise InputError("vocabulary: no token begins with a space, so texts would be one word")
        if lost := [pair for pair in self.merges if "".join(pair) not in self._index]:
            raise InputError(f"vocabulary: {lost[0]} are merged into what is no token")

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Vocabulary":
        """The characters of training texts: blank, space, the others sorted."""
        characters = set().union(*map(normalise, texts)) - {SPACE}
        return cls((BLANK, SPACE, *sorted(characters)))

    @classmethod
    def of_words(cls, texts: Iterable[str]) -> "Vocabulary":
        """The words of training texts, sorted."""
        words = set().union(*(normalise(text).split() for text in texts))
        return cls((BLANK, *(SPACE + word for word in sorted(words))))

    @classmethod
    def of_pieces(cls, texts: Iterable[str], size: int) -> "Vocabulary":
        """Pieces of the words of training texts, by byte-pair encoding on characters (Sennrich et al. 2016).

        The commonest pair of neighbours becomes a piece, again and again; of equally common ones the first in alphabetical order.

        Args:
            texts: the training texts.
            size: of the vocabulary, the blank included; smaller where there are no more pairs that occur twice.
        """
        texts = list(texts)
        characters = cls.of(texts)
        words = Counter(word for text in texts for word in normalise(text).split())
        parts = {word: [SPACE, *word] for word in words}
        merges: list[tuple[str, str]] = []
        while len(characters) + len(merges) < size:
            pairs: Counter[tuple[str, str]] = Counter()
            for word, count in words.items():
                for pair in pairwise(parts[word]):
                    pairs[pair] += count
            if not pairs or max(pairs.values()) < 2:
                break
            best = min(pairs, key=lambda pair: (-pairs[pair], pair))
            merges.append(best)
            parts = {word: _merged(part, best) for word, part in parts.items()}
        return cls((*characters.tokens, *map("".join, merges)), tuple(merges))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def space(self) -> int | None:
        """The token of the space by itself, None where every word is one token."""
        return self._index.get(SPACE)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The tokens as files of words write them, with "▁" for the space."""
        return tuple(token.replace(SPACE, "▁") for token in self.tokens)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, normalised first.

        Raises:
            InputError: it has a character, or a word, that the vocabulary lacks.
        """
        parts = [part for word in normalise(text).split() for part in self._parts(word)]
        try:
            return [self._index[part] for part in parts[parts[:1] == [SPACE] :]]
        except KeyError as error:
            what = "characters" if SPACE in self._index else "words"
            known = (
                {letter for token in self.tokens[1:] for letter in token} if SPACE in self._index else self.tokens[1:]
            )
            listed = repr("".join(sorted(known))) if SPACE in self._index else f"({len(known)})"
            raise InputError(
                f"text {text!r}: {error.args[0].strip()!r} is not among the recogniser's {what} "
                f"{listed}; build the vocabulary from texts that have it"
            ) from error

    def written(self, text: str) -> list[str]:
        """A text's tokens as `symbols`, for language models of them."""
        return [self.symbols[token] for token in self.encode(text)]

    def writable(self, text: str) -> str:
        """A text without the characters, or the words, that the vocabulary lacks, normalised first."""
        words = normalise(text).split()
        kept = (
            word if SPACE + word in self._index else "".join(filter(self._index.__contains__, word)) for word in words
        )
        return normalise(SPACE.join(kept))

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; blanks vanish, repeats stay."""
        return SPACE.join("".join(self.tokens[token] for token in tokens if token).split())

    def save(self, path: Path) -> None:
        """Writes `{"tokens": [...], "form": FORM}`, with the merges where there are any."""
        content: dict[str, object] = {"tokens": self.tokens, "form": FORM}
        if self.merges:
            content["merges"] = self.merges
        with replacing(path) as draft:
            draft.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Reads what `save` wrote.

        Raises:
            NotFound: there is no such file.
            InputError: it does not hold a vocabulary.
        """
        if not path.is_file():
            raise NotFound(f"{path}: no such vocabulary")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if (form := content.get("form", FORM)) != FORM:  # an earlier headwise had no other and named none
                raise InputError(f"its texts have the form {form!r}, this headwise makes {FORM!r}")
            merges = tuple((str(left), str(right)) for left, right in content.get("merges", ()))
            return cls(tuple(map(str, content["tokens"])), merges)
        except (ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            raise InputError(f"{path}: not a vocabulary ({error}); export the model again") from error

    @cached_property
    def _index(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    @cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    def _parts(self, word: str) -> list[str]:
        if SPACE + word in self._index:
            return [SPACE + word]
        if self.space is None:
            return [SPACE + word]  # which is not known
        parts = [SPACE, *word]
        while best := min(
            (pair for pair in pairwise(parts) if pair in self._ranks), key=self._ranks.__getitem__, default=None
        ):
            parts = _merged(parts, best)
        return parts


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged
