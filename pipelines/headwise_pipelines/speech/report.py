"""How well the recogniser hears, beside what a listener that always says the same would get."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from headwise_speech.batches import Spoken, evenly
from headwise_speech.metrics import ErrorRate, character_error_rate, word_counts, word_error_rate
from headwise_speech.model import Recogniser
from headwise_speech.text import Vocabulary, normalise
from headwise_speech.transcription import Transcriber
from headwise_speech.utterances import Utterances

BATCH = 120.0  # seconds of audio heard at once


@dataclass(frozen=True)
class Heard:
    """What was said and what was heard.

    Attributes:
        indices: of the utterances.
        references: their texts, normalised.
        hypotheses: what was heard.
    """

    indices: NDArray[np.int64]
    references: Sequence[str]
    hypotheses: Sequence[str]

    @property
    def words(self) -> ErrorRate:
        """Word error rate, with counts."""
        return word_error_rate(self.references, self.hypotheses)

    @property
    def characters(self) -> ErrorRate:
        """Character error rate, with counts."""
        return character_error_rate(self.references, self.hypotheses)

    @property
    def word_errors(self) -> NDArray[np.float64]:
        """Of each utterance, float64 [utterances]."""
        counts = word_counts(self.references, self.hypotheses)
        errors: NDArray[np.float64] = (counts.sum(axis=1) - counts[:, 0]).astype(np.float64)  # all but the hits
        return errors

    def metrics(self) -> dict[str, float]:
        """The figures that are tracked; rates are shares, errors are counts."""
        words, characters = self.words, self.characters
        wrong = sum(a != b for a, b in zip(self.references, self.hypotheses, strict=True))
        return {
            "wer": words.rate,
            "wer_low": words.low,
            "wer_high": words.high,
            "word_errors": words.errors,
            "words": words.reference,
            "cer": characters.rate,
            "sentence_errors": wrong / len(self.references),
        }


@torch.inference_mode()
def listen(model: Recogniser, transcribe: Transcriber, vocabulary: Vocabulary, data: Utterances, split: str) -> Heard:
    """What the model hears in every utterance of a split."""
    model.eval()
    indices = data.subset(split)
    hypotheses: dict[int, str] = {}
    spoken = Spoken(data, vocabulary)
    for drawn in evenly(data, indices, seconds=BATCH):
        batch = spoken[drawn]
        encoded, frames = model.encode(*model.front_end(batch.waveform, batch.lengths))
        log_probs = model.read(encoded)
        for one, states, row, length in zip(drawn, encoded.numpy(), log_probs.numpy(), frames.tolist(), strict=True):
            heard = transcribe(data.waveform(one.utterance), row[:length], states[:length])
            hypotheses[one.utterance] = heard.text
    references = [normalise(data.texts[index]) for index in indices]
    return Heard(indices, references, [hypotheses[index] for index in indices.tolist()])


def commonest_text(data: Utterances) -> Heard:
    """The baseline: the commonest training text, whatever is said."""
    texts = Counter(normalise(data.texts[index]) for index in data.subset("train"))
    indices = data.subset("test")
    references = [normalise(data.texts[index]) for index in indices]
    return Heard(indices, references, [texts.most_common(1)[0][0]] * len(indices))
