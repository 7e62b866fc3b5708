"""What reads text off log probabilities, in memory and in a model folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from headwise.errors import InputError
from headwise.model_folder import read_table
from headwise_speech.decoding.arpa import read_arpa, write_arpa
from headwise_speech.decoding.beam import PrefixBeam
from headwise_speech.decoding.greedy import greedy
from headwise_speech.decoding.hotwords import HotWords
from headwise_speech.decoding.hypothesis import Hypothesis, LogProbs
from headwise_speech.decoding.ngram import NGram
from headwise_speech.text import Vocabulary

KINDS = ("greedy", "lexicon", "open")

_VOCABULARY, _WORDS, _LANGUAGE = "vocabulary.json", "words.json", "language.arpa.gz"
_EARLIER = "pairs.json"  # what lexicon decoders had for a language model before there was `_LANGUAGE`


@dataclass(frozen=True)
class Decoder:
    """The likeliest alignment's text, or that of a beam.

    Args:
        kind: "greedy"; "lexicon", a beam over a closed list of words; or "open", a beam over any words.
        vocabulary: the tokens of the log probabilities.
        words: the closed list of "lexicon".
        language: the beam's language model.
        beam: unit, width, weight and bonus of `PrefixBeam`.
    """

    kind: str
    vocabulary: Vocabulary
    words: Sequence[str] | None = None
    language: NGram | None = None
    beam: Mapping[str, Any] | None = None

    def __call__(self, log_probs: LogProbs, frames: int | None = None, *, hot: HotWords | None = None) -> Hypothesis:
        """The best text of log probabilities [frames, vocab], of which the first `frames` are real.

        With hot words a greedy decoder is a beam without language model, for what is expected has to be kept in mind.
        """
        if self.kind == "greedy" and hot is None:
            return greedy(log_probs, self.vocabulary, frames)
        return self._search(log_probs, frames, hot=hot)

    def nbest(
        self, log_probs: LogProbs, frames: int | None = None, *, count: int, hot: HotWords | None = None
    ) -> list[Hypothesis]:
        """What a call answers, and then the next best texts of a beam; at least one and `count` at most."""
        found = self._search.nbest(log_probs, frames, count=count, hot=hot)
        if self.kind != "greedy" or hot is not None:
            return found
        likeliest = self(log_probs, frames)
        first = next((each for each in found if each.text == likeliest.text), likeliest)
        return [first, *(each for each in found if each is not first)][:count]

    @property
    def card(self) -> dict[str, Any]:
        """What a model's card says of it."""
        return {"decoder": self.kind, **({"beam": dict(self.beam)} if self.beam else {})}

    def write(self, folder: Path) -> None:
        """Puts its tables into a model folder."""
        self.vocabulary.save(folder / _VOCABULARY)
        if self.words is not None:
            text = json.dumps(list(self.words), ensure_ascii=False)
            (folder / _WORDS).write_text(f"{text}\n", encoding="utf-8")
        if self.language is not None:
            write_arpa(self.language, folder / _LANGUAGE)

    @cached_property
    def _search(self) -> PrefixBeam:
        return PrefixBeam(self.vocabulary, words=self.words, language=self.language, **(self.beam or {}))


def read_decoder(folder: Path, card: Mapping[str, Any]) -> Decoder:
    """The decoder in a model folder.

    Args:
        folder: what `Decoder.write` wrote to.
        card: the settings on the model's card.

    Raises:
        InputError: it is of a kind that this version does not know, or its tables are missing or damaged.
    """
    kind = card.get("decoder")
    if kind not in KINDS:
        raise InputError(f"{folder}/model.json: settings.decoder is {kind!r}, not {', '.join(KINDS)}; export again")
    if (folder / _EARLIER).is_file():
        raise InputError(f"{folder}/{_EARLIER}: the language model of an earlier headwise; export the model again")
    vocabulary = Vocabulary.load(folder / _VOCABULARY)
    words = read_table(folder / _WORDS, list[str]) if kind == "lexicon" else None
    language = read_arpa(folder / _LANGUAGE) if (folder / _LANGUAGE).is_file() else None
    return Decoder(kind, vocabulary, words, language, card.get("beam"))
