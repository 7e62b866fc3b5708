"""The decoder that a run asks for, with the words and the language of its training texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwise_pipelines.speech.presets import DecoderSettings
from headwise_speech import decoding
from headwise_speech.frontend import SAMPLE_RATE
from headwise_speech.text import Vocabulary, normalise


@dataclass(frozen=True)
class Decoder:
    """Reads log-probabilities; knows what the server needs to read them alike.

    Attributes:
        settings: which decoder, and its numbers.
        vocabulary: tokens of the log-probabilities.
        texts: the training texts, which the closed list and the language model are taken from.
    """

    settings: DecoderSettings
    vocabulary: Vocabulary
    texts: Sequence[str]

    def build(self) -> decoding.Decoder:
        """What turns log-probabilities [frames, vocab] into text."""
        chosen = self.settings
        if chosen.kind == "greedy":
            return decoding.Decoder(chosen.kind, self.vocabulary)
        texts = [normalise(text) for text in self.texts]
        words = sorted({word for text in texts for word in text.split()}) if chosen.kind == "lexicon" else None
        language = None
        if chosen.order:
            split = str.split if chosen.unit == "word" else self.vocabulary.written
            language = decoding.kneser_ney(map(split, texts), chosen.order)
        beam = {"unit": chosen.unit, "width": chosen.width, "weight": chosen.weight, "bonus": chosen.bonus}
        return decoding.Decoder(chosen.kind, self.vocabulary, words, language, beam)

    def card(self) -> dict[str, Any]:
        """What the model card says of it."""
        return {"sample_rate": SAMPLE_RATE, **self.build().card}

    def write(self, folder: Path) -> None:
        """Puts what the server needs beside the graph."""
        self.build().write(folder)
