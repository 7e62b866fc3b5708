"""The attention decoder judges the texts that the beam found. NumPy and ONNX Runtime, no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headwise.serving.session import Session
from headwise_speech.decoding import Decoder, HotWords, Hypothesis
from headwise_speech.decoding.hypothesis import LogProbs
from headwise_speech.text import Vocabulary

RESCORING = "rescore.onnx"
INPUTS, OUTPUTS = ("encoded", "tokens"), ("scores",)

Encoded = npt.NDArray[np.floating[Any]]  # [frames, width], real frames alone
Judge = Callable[[Encoded, npt.NDArray[np.int64]], npt.NDArray[np.float32]]
"""From an utterance and tokens [candidates, longest], padded with 0, to the log-probability of each candidate."""


@dataclass(frozen=True)
class Rescorer:
    """Hybrid CTC/attention: the beam proposes by CTC, the decoder reads each proposal as a whole (Watanabe et al. 2017).

    A hypothesis scores (1 - w) log P by CTC + w log P by attention, and whatever the beam gave it for language and words.

    Attributes:
        judge: the attention decoder.
        vocabulary: what its tokens stand for.
        weight: w, the decoder's share.
        candidates: how many hypotheses the beam is asked for.
    """

    judge: Judge
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
        """The decoder's log-probability of each text [texts], one or more."""
        return self.judge(encoded, padded([self.vocabulary.encode(text) for text in texts]))


@dataclass(frozen=True)
class TwoPass:
    """How an utterance is read: by a decoder of log-probabilities and, where there is a rescorer, once more by that.

    Attributes:
        decoder: the first pass.
        rescorer: the second.
    """

    decoder: Decoder
    rescorer: Rescorer | None = None

    def __call__(
        self, log_probs: LogProbs, encoded: Encoded | None = None, *, hot: HotWords | None = None
    ) -> Hypothesis:
        """The best text.

        Args:
            log_probs: [frames, vocab], real frames alone.
            encoded: the same frames as the encoder left them; without them there is no second pass.
            hot: words that are expected.
        """
        if self.rescorer is None or encoded is None:
            return self.decoder(log_probs, hot=hot)
        return self.nbest(log_probs, encoded, count=self.rescorer.candidates, hot=hot)[0]

    def nbest(
        self, log_probs: LogProbs, encoded: Encoded | None = None, *, count: int, hot: HotWords | None = None
    ) -> list[Hypothesis]:
        """The best texts, the first of them what a call answers; those that the rescorer has not judged come last."""
        if self.rescorer is None or encoded is None:
            return self.decoder.nbest(log_probs, count=count, hot=hot)
        candidates = self.rescorer.candidates
        found = self.decoder.nbest(log_probs, count=max(count, candidates), hot=hot)
        return [*self.rescorer(found[:candidates], encoded), *found[candidates:]][:count]


def padded(rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Rows of tokens, filled up with 0 to the longest; one column at least."""
    tokens = np.zeros((len(rows), max(1, *map(len, rows))), np.int64)
    for into, row in zip(tokens, rows, strict=True):
        into[: len(row)] = row
    return tokens


def read_rescorer(folder: Path, vocabulary: Vocabulary, *, weight: float, threads: int = 1) -> Rescorer:
    """The rescorer in a model folder.

    Args:
        folder: the model folder, of a recogniser with an attention decoder.
        vocabulary: of its recogniser.
        weight: the decoder's share in a hypothesis's score.
        threads: for one run of the graph.

    Raises:
        InputError: the graph cannot be loaded.
    """
    session = Session(folder / RESCORING, inputs=INPUTS, outputs=OUTPUTS, threads=threads)

    def judge(encoded: Encoded, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return session.run(encoded=np.ascontiguousarray(encoded), tokens=tokens)[0]

    return Rescorer(judge, vocabulary, weight)
