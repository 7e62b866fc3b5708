"""From a waveform, and the log probabilities that a graph read off it, to text and timed words. No torch: the server does it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from headwise.errors import InputError
from headwise_speech.alignment import WordFrames, word_frames
from headwise_speech.audio import SAMPLE_RATE
from headwise_speech.confidence import HYPOTHESES, confidences
from headwise_speech.decoding import HotWords, Hypothesis
from headwise_speech.decoding.hypothesis import BLANK, LogProbs
from headwise_speech.rescoring import Encoded, TwoPass
from headwise_speech.text import Vocabulary, normalise
from headwise_speech.voice import Waveform, spoken

_SHORTEST = 0.01  # seconds of a word


class TimedWord(NamedTuple):
    """A word, when it was said, and how probable it is that it was."""

    word: str
    start: float  # seconds
    end: float
    confidence: float = 1.0


@dataclass(frozen=True)
class Transcriber:
    """Reads text off log probabilities and tells when each word was said.

    Args:
        reader: what reads.
        hop: seconds from frame to frame.
        voice: whether text is kept only where somebody speaks (`voice.spoken`).
    """

    reader: TwoPass
    hop: float
    voice: bool = True

    @property
    def vocabulary(self) -> Vocabulary:
        """What it writes with."""
        return self.reader.decoder.vocabulary

    def __call__(
        self, waveform: Waveform, log_probs: LogProbs, encoded: Encoded | None = None, *, hot: HotWords | None = None
    ) -> Hypothesis:
        """The text of a recording, empty where nobody speaks.

        Args:
            waveform: [samples] of 16 kHz.
            log_probs: [frames, vocab], of real frames alone.
            encoded: the same frames as the encoder left them, for the attention decoder.
            hot: what to expect in it.
        """
        return self._kept(self.reader(log_probs, encoded, hot=hot), waveform, log_probs)

    def timed(
        self, waveform: Waveform, log_probs: LogProbs, encoded: Encoded | None = None, *, hot: HotWords | None = None
    ) -> tuple[Hypothesis, list[TimedWord], list[WordFrames]]:
        """The same, and when each word was said: in seconds with its confidence, and in frames."""
        hypotheses = self.reader.nbest(log_probs, encoded, count=HYPOTHESES, hot=hot)
        best = self._kept(hypotheses[0], waveform, log_probs)
        frames = word_frames(log_probs, best.text, self.vocabulary)
        times = self._seconds(frames, waveform)
        sure = confidences(frames, hypotheses)
        words = [
            TimedWord(each.word, start, end, round(confidence, 3))
            for each, (start, end), confidence in zip(frames, times, sure, strict=True)
        ]
        return best, words, frames

    def aligned(self, waveform: Waveform, log_probs: LogProbs, text: str) -> list[TimedWord]:
        """When each word of a text that is known was said; a confidence is how clearly it was heard.

        Raises:
            InputError: the text has no words, or has no alignment to the recording.
        """
        if not (normal := normalise(text)):
            raise InputError(f"text {text[:40]!r}: has no words to align")
        frames = word_frames(log_probs, normal, self.vocabulary)
        pairs = zip(frames, self._seconds(frames, waveform), strict=True)
        return [TimedWord(each.word, start, end, round(each.heard, 3)) for each, (start, end) in pairs]

    def _kept(self, heard: Hypothesis, waveform: Waveform, log_probs: LogProbs) -> Hypothesis:
        if not self.voice or not heard.text:
            return heard
        words = word_frames(log_probs, heard.text, self.vocabulary)
        clearness = float(np.mean([word.heard for word in words]))
        if spoken(waveform, self._seconds(words, waveform), clearness):
            return heard
        silence = float(log_probs[:, BLANK].sum(dtype=np.float64))
        return replace(heard, text="", score=silence, acoustic=silence, language=0.0)

    def _seconds(self, words: Sequence[WordFrames], waveform: Waveform) -> list[tuple[float, float]]:
        # The last frame may be there in part; whatever is said has some length.
        end = len(waveform) / SAMPLE_RATE
        start = max(0.0, end - _SHORTEST)
        return [
            (min(round(word.first * self.hop, 3), start), min(round(word.end * self.hop, 3), end)) for word in words
        ]
