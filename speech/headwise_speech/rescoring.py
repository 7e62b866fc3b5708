"""The attention decoder judges the texts that the beam found. NumPy and ONNX Runtime, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headwise.serving.session import Session
from headwise_speech.decoding import Hypothesis
from headwise_speech.text import Vocabulary

RESCORING = "rescore.onnx"
INPUTS, OUTPUTS = ("encoded", "tokens"), ("scores",)

Encoded = npt.NDArray[np.floating[Any]]  # [frames, width], real frames alone


@dataclass(frozen=True)
class Rescorer:
    """Hybrid CTC/attention: the beam proposes by CTC, the decoder reads each proposal as a whole (Watanabe et al. 2017).

    A hypothesis scores (1 - w) log P by CTC + w log P by attention, and whatever the beam gave it for language and words.

    Attributes:
        session: of `rescore.onnx`.
        vocabulary: what its tokens stand for.
        weight: w, the decoder's share.
        candidates: how many hypotheses the beam is asked for.
    """

    session: Session
    vocabulary: Vocabulary
    weight: float
    candidates: int = 8

    def __call__(self, hypotheses: Sequence[Hypothesis], encoded: Encoded) -> list[Hypothesis]:
        """The hypotheses with their new scores, the best first; equal ones keep the beam's order.

        Args:
            hypotheses: as the beam found them.
            encoded: the utterance, as the recogniser's graph gives it beside the log-probabilities.
        """
        opinions = self.opinions([hypothesis.text for hypothesis in hypotheses], encoded)
        judged = [
            replace(hypothesis, score=hypothesis.score + self.weight * (float(opinion) - hypothesis.acoustic))
            for hypothesis, opinion in zip(hypotheses, opinions, strict=True)
        ]
        return sorted(judged, key=lambda hypothesis: -hypothesis.score)

    def opinions(self, texts: Sequence[str], encoded: Encoded) -> npt.NDArray[np.float32]:
        """The decoder's log-probability of each text [texts]."""
        if not texts:
            return np.zeros(0, np.float32)
        written = [self.vocabulary.encode(text) for text in texts]
        tokens = np.zeros((len(texts), max(1, *map(len, written))), np.int64)
        for row, text in zip(tokens, written, strict=True):
            row[: len(text)] = text
        [scores] = self.session.run(encoded=np.ascontiguousarray(encoded), tokens=tokens)
        return scores


def read_rescorer(folder: Path, vocabulary: Vocabulary, *, weight: float, threads: int = 1) -> Rescorer | None:
    """The rescorer of a model folder; None where its recogniser has no attention decoder.

    Args:
        folder: the model folder.
        vocabulary: of its recogniser.
        weight: the decoder's share in a hypothesis's score.
        threads: for one run of the graph.

    Raises:
        InputError: the graph cannot be loaded.
    """
    if not (folder / RESCORING).is_file():
        return None
    session = Session(folder / RESCORING, inputs=INPUTS, outputs=OUTPUTS, threads=threads)
    return Rescorer(session, vocabulary, weight)
