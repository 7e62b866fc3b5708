"""The decoder that a run asks for, with the words and the language of its training texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headwise_pipelines.speech.presets import DecoderSettings
from headwise_speech import decoding
from headwise_speech.frontend import HOP, SAMPLE_RATE
from headwise_speech.graph import RescoringGraph
from headwise_speech.model import Recogniser
from headwise_speech.rescoring import Encoded, Rescorer, TwoPass
from headwise_speech.subsampling import REDUCTION
from headwise_speech.text import Vocabulary, normalise
from headwise_speech.transcription import Transcriber


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

    def reader(self, model: Recogniser) -> TwoPass:
        """What turns what a model hears into text, its attention decoder included where it has one that is wanted."""
        if not self.judged(model):
            return TwoPass(self.build())
        graph = RescoringGraph(model)

        def judge(encoded: Encoded, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
            with torch.inference_mode():
                scores: NDArray[np.float32] = graph(*map(torch.from_numpy, (np.asarray(encoded), tokens)))[0].numpy()
            return scores

        return TwoPass(self.build(), Rescorer(judge, self.vocabulary, self.settings.attention))

    def transcriber(self, model: Recogniser) -> Transcriber:
        """The same, and no text where nobody speaks."""
        return Transcriber(self.reader(model), REDUCTION * HOP / SAMPLE_RATE, self.settings.voice)

    def judged(self, model: Recogniser) -> bool:
        """Whether the model's attention decoder has a say."""
        return model.decoder is not None and self.settings.kind != "greedy" and self.settings.attention > 0

    def card(self) -> dict[str, Any]:
        """What the model card says of it."""
        return {"sample_rate": SAMPLE_RATE, "voice": self.settings.voice, **self.build().card}

    def write(self, folder: Path) -> None:
        """Puts what the server needs beside the graph."""
        self.build().write(folder)
