"""Transcripts as a recogniser writes them, and the characters it writes with."""

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from headwise.errors import InputError, NotFound
from headwise.files import replacing

BLANK = "<blank>"
SPACE = " "

_APOSTROPHES = str.maketrans("’ʼ", "''")


def normalise(text: str) -> str:
    """The one form of a transcript that training, scoring and serving share.

    NFC, upper case, a plain apostrophe, other punctuation and symbols a space, spaces collapsed. Applying it twice
    changes nothing.

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
    """The characters a recogniser writes with; token 0 is the CTC blank, one other is the space between words."""

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.tokens or self.tokens[0] != BLANK:
            raise InputError(f"vocabulary: token 0 is {self.tokens[:1]}, it must be {BLANK!r}")
        wrong = [token for token in self.tokens[1:] if len(token) != 1]
        if wrong or len(set(self.tokens)) < len(self.tokens) or SPACE not in self.tokens:
            raise InputError(f"vocabulary: tokens must be single characters, each once, with the space: {self.tokens}")

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Vocabulary":
        """The vocabulary of all characters in training texts: blank, space, the others sorted."""
        characters = set().union(*map(normalise, texts)) - {SPACE}
        return cls((BLANK, SPACE, *sorted(characters)))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def space(self) -> int:
        """The token of the space."""
        return self._index[SPACE]

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, normalised first.

        Raises:
            InputError: it has a character that the vocabulary lacks.
        """
        normal = normalise(text)
        try:
            return [self._index[character] for character in normal]
        except KeyError as error:
            raise InputError(
                f"text {text!r}: {error.args[0]!r} is not among the recogniser's characters "
                f"{''.join(self.tokens[1:])!r}; build the vocabulary from texts that have it"
            ) from error

    def writable(self, text: str) -> str:
        """A text without the characters that the vocabulary lacks, normalised first."""
        return normalise("".join(character for character in normalise(text) if character in self._index))

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; blanks vanish, repeats stay."""
        return "".join(self.tokens[token] for token in tokens if token)

    def save(self, path: Path) -> None:
        """Writes `{"tokens": [...]}`."""
        with replacing(path) as draft:
            draft.write_text(json.dumps({"tokens": self.tokens}, ensure_ascii=False) + "\n", encoding="utf-8")

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
            return cls(tuple(map(str, json.loads(path.read_text(encoding="utf-8"))["tokens"])))
        except (ValueError, KeyError, TypeError, InputError) as error:
            raise InputError(f"{path}: not a vocabulary ({error}); export the model again") from error

    @cached_property
    def _index(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}
