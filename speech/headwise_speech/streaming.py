"""Live recognition: pieces of a waveform in, log-probabilities and the text so far out. NumPy and ONNX Runtime, no torch.

The graph hears a chunk at a time and remembers what its attention and convolutions need of those before; it answers what the
model answers for the whole utterance under its mask of chunks. What a stream holds is of one size, however long it lasts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headwise.errors import InputError
from headwise.model_folder import read_card
from headwise.serving.session import Session
from headwise_speech.text import Vocabulary

STREAM = "stream.onnx"
MEMORY = ("keys", "values", "convolutions")
INPUTS = ("waveform", "lengths", "start", *MEMORY)
OUTPUTS = ("log_probs", "frames", *(f"next_{name}" for name in MEMORY))

Samples = npt.NDArray[np.floating[Any]]  # [samples], 16 kHz, within -1..1
LogProbs = npt.NDArray[np.float32]  # [frames, vocab]


@dataclass(frozen=True)
class Endpointing:
    """When an utterance counts as over, in frames of the encoder (rules 2, 1 and 5 of Kaldi's online decoder).

    Attributes:
        after_speech: frames of nothing but blanks after something was heard.
        after_nothing: frames in which nothing was heard at all.
        longest: frames of an utterance, however much is still said.
    """

    after_speech: int = 20
    after_nothing: int = 125
    longest: int = 500

    def over(self, heard: bool, silent: int, frames: int) -> bool:
        """Whether it is over.

        Args:
            heard: whether anything but blanks was.
            silent: frames of blanks at its end.
            frames: how many there are.
        """
        return silent >= (self.after_speech if heard else self.after_nothing) or frames >= self.longest


@dataclass(frozen=True)
class Heard:
    """What one more chunk told.

    Attributes:
        log_probs: of its frames.
        text: of the utterance so far, by the likeliest alignment.
        over: whether the utterance ends here; the next chunk then begins another.
    """

    log_probs: LogProbs
    text: str
    over: bool


@dataclass(frozen=True)
class Form:
    """What a streaming graph is made for; the model's card says it.

    Attributes:
        chunk: frames of the encoder that it hears at a time.
        hop: samples of one of them.
        lead: samples before a chunk that it also wants.
        window: samples that it takes in all.
        memory: sizes of keys, values and convolutions of one stream.
    """

    chunk: int
    hop: int
    lead: int
    window: int
    memory: Sequence[Sequence[int]]


class Stream:
    """One live recording, from `Streamer.open` on. Utterances in it end where its endpointing says, or with it."""

    def __init__(self, streamer: "Streamer", endpointing: Endpointing | None) -> None:
        self._streamer, self._endpointing = streamer, endpointing
        self._waiting: npt.NDArray[np.float32]
        self._ended = False
        self._begin(np.zeros(0, np.float32))

    def feed(self, samples: Samples) -> list[Heard]:
        """What these samples complete: nothing, or one or more chunks."""
        self.push(samples)
        heard = []
        while self.ready:
            heard += self._streamer.advance([self])
        return heard

    def finish(self) -> list[Heard]:
        """What is left when there are no more samples; the last of it is over."""
        self.end()
        return self.feed(np.zeros(0, np.float32))

    def push(self, samples: Samples) -> None:
        """Take samples in without listening to them yet, for whoever advances several streams together.

        Raises:
            InputError: the stream has ended, or they are not one row of finite numbers.
        """
        if self._ended and len(samples):
            raise InputError("the stream has ended; open another for more samples")
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise InputError(f"samples of shape {samples.shape}: one row of finite numbers within -1..1 is needed")
        self._waiting = np.concatenate([self._waiting, samples.astype(np.float32)])

    def end(self) -> None:
        """No more samples will come."""
        self._ended = True

    @property
    def ready(self) -> bool:
        """Whether a chunk can be heard."""
        form = self._streamer.form
        return len(self._waiting) >= form.window or (self._ended and not self._over)

    def _begin(self, samples: npt.NDArray[np.float32]) -> None:
        # Of an utterance: silence lies before its first sample.
        form = self._streamer.form
        self._waiting = np.concatenate([np.zeros(form.lead, np.float32), samples])
        self._memory = [np.zeros(tuple(sizes), np.float32) for sizes in form.memory]
        self._start, self._over = 0, False
        self._tokens: list[int] = []
        self._last, self._silent = 0, 0

    def _ask(self) -> tuple[npt.NDArray[np.float32], int]:
        # The window, and how many samples of it lie after the lead.
        form = self._streamer.form
        window = self._waiting[: form.window]
        return np.pad(window, (0, form.window - len(window))), len(window) - form.lead

    def _take(self, log_probs: LogProbs, memory: list[npt.NDArray[np.float32]], vocabulary: Vocabulary) -> Heard:
        form = self._streamer.form
        rest = self._waiting[form.chunk * form.hop :]
        self._start, self._memory = self._start + len(log_probs), memory
        for token in log_probs.argmax(1).tolist():
            if token and token != self._last:
                self._tokens.append(token)
            self._last, self._silent = token, 0 if token else self._silent + 1
        # There is another chunk for every sample from its beginning on, that one included.
        last = self._ended and len(rest) < form.lead
        heard = Heard(log_probs, vocabulary.decode(self._tokens), last or self._at_an_end())
        if heard.over and not last:
            self._begin(rest[form.lead :])
        else:
            self._waiting, self._over = rest, last
        return heard

    def _at_an_end(self) -> bool:
        rule = self._endpointing
        return rule is not None and rule.over(bool(self._tokens), self._silent, self._start)


class Streamer:
    """A streaming graph, which advances any number of streams by a chunk at once.

    Args:
        session: of `stream.onnx`.
        vocabulary: tokens of its log-probabilities.
        form: what it is made for.
    """

    def __init__(self, session: Session, vocabulary: Vocabulary, form: Form) -> None:
        self._session, self._vocabulary, self.form = session, vocabulary, form

    def open(self, endpointing: Endpointing | None = None) -> Stream:
        """A stream at its beginning; without endpointing it is one utterance."""
        return Stream(self, endpointing)

    def advance(self, streams: Sequence[Stream]) -> list[Heard]:
        """What the next chunk of each stream tells; all of them must be ready, and none may be there twice."""
        windows, lengths = zip(*(stream._ask() for stream in streams), strict=True)
        log_probs, frames, *memories = self._session.run(
            waveform=np.stack(windows),
            lengths=np.array(lengths, np.int64),
            start=np.array([stream._start for stream in streams], np.int64),
            **{
                name: np.stack(parts)
                for name, parts in zip(MEMORY, zip(*(s._memory for s in streams), strict=True), strict=True)
            },
        )
        return [
            stream._take(rows[:count], [memory[number] for memory in memories], self._vocabulary)
            for number, (stream, rows, count) in enumerate(zip(streams, log_probs, frames.tolist(), strict=True))
        ]


def read_streamer(folder: Path, *, threads: int = 1) -> Streamer:
    """The streaming recogniser in a model folder.

    Args:
        folder: the model folder.
        threads: for one run of the graph.

    Raises:
        NotFound: there is no model folder.
        InputError: the model was not trained to stream, or its graph cannot be loaded.
    """
    card = read_card(folder)
    if "stream" not in card.settings:
        raise InputError(f"{folder}: hears whole recordings alone; train a recogniser with --model.chunk 12 to stream")
    session = Session(folder / STREAM, inputs=INPUTS, outputs=OUTPUTS, threads=threads)
    return Streamer(session, Vocabulary.load(folder / "vocabulary.json"), Form(**card.settings["stream"]))
