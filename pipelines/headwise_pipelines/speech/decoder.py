"""The decoder that a run asks for, as a function here and as files in the model folder."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwise_pipelines.speech.presets import DecoderSettings
from headwise_speech.decoding import Hypothesis, LexiconBeam, WordPairs, greedy
from headwise_speech.frontend import SAMPLE_RATE
from headwise_speech.text import Vocabulary, normalise


@dataclass(frozen=True)
class Decoder:
    """Reads log-probabilities; knows what the server needs to read them alike.

    Attributes:
        settings: which decoder, and its numbers.
        vocabulary: characters of the log-probabilities.
        texts: the training texts, which the lexicon search takes its words from.
    """

    settings: DecoderSettings
    vocabulary: Vocabulary
    texts: Sequence[str]

    def build(self) -> Callable[[NDArray[np.floating[Any]]], Hypothesis]:
        """The function from log-probabilities [frames, vocab] to text."""
        if self.settings.kind == "greedy":
            return partial(greedy, vocabulary=self.vocabulary)
        pairs = WordPairs.of(self.texts)
        return LexiconBeam(self._words(), self.vocabulary, pairs=pairs, **self._beam())

    def card(self) -> dict[str, Any]:
        """What the model card says of it."""
        beam = {"beam": self._beam()} if self.settings.kind == "lexicon" else {}
        return {"sample_rate": SAMPLE_RATE, "decoder": self.settings.kind, **beam}

    def write(self, folder: Path) -> None:
        """Puts what the server needs beside the graph."""
        self.vocabulary.save(folder / "vocabulary.json")
        if self.settings.kind == "lexicon":
            pairs = WordPairs.of(self.texts)
            tables = {"words.json": self._words(), "pairs.json": {"counts": pairs.counts, "pairs": pairs.pairs}}
            for name, table in tables.items():
                (folder / name).write_text(json.dumps(table, ensure_ascii=False) + "\n", encoding="utf-8")

    def _beam(self) -> dict[str, Any]:
        return {"width": self.settings.width, "weight": self.settings.weight, "bonus": self.settings.bonus}

    def _words(self) -> list[str]:
        return sorted({word for text in self.texts for word in normalise(text).split()})
