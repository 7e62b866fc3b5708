"""What the graphs of a recogniser are compared with, on what, and what must come out the same."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headwise.export import TOLERANCE, Arrays
from headwise.serving.session import Session
from headwise_pipelines.speech.decoder import Decoder
from headwise_speech import streaming
from headwise_speech.batches import Spoken, evenly
from headwise_speech.graph import StreamGraph
from headwise_speech.model import Recogniser
from headwise_speech.rescoring import padded
from headwise_speech.utterances import Utterances

PROVED = 130  # utterances that a graph must agree on
SECONDS = 40.0  # of audio in a batch of them
CANDIDATES = 4  # texts of an utterance that rescoring must judge alike


class StreamTwins:
    """Streams that end one after another, beside one pass over whole utterances under the mask of chunks.

    Args:
        graph: the streaming recogniser, as exported.
        path: its `.onnx` file.
        decoder: knows its vocabulary.
    """

    def __init__(self, graph: StreamGraph, path: Path, decoder: Decoder) -> None:
        session = Session(path, inputs=streaming.INPUTS, outputs=streaming.OUTPUTS)
        self._streamer = streaming.Streamer(session, decoder.vocabulary, graph.form)
        self._model = graph.model

    def by_graph(self, inputs: Arrays) -> Arrays:
        """What the streams are told, side by side."""
        streams = [self._streamer.open() for _ in inputs["lengths"]]
        for stream, row, length in zip(streams, inputs["waveform"], inputs["lengths"], strict=True):
            stream.push(row[: int(length)])
            stream.end()
        told: list[list[NDArray[np.float32]]] = [[] for _ in streams]
        while ready := [number for number, stream in enumerate(streams) if stream.ready]:
            for number, heard in zip(ready, self._streamer.advance([streams[i] for i in ready]), strict=True):
                told[number].append(heard.log_probs)
        return _padded([np.concatenate(parts) for parts in told])

    def by_module(self, inputs: Arrays) -> Arrays:
        """What the model answers for the whole utterances."""
        waveform, lengths = (torch.from_numpy(np.asarray(inputs[name])) for name in ("waveform", "lengths"))
        with torch.inference_mode():
            spectrogram, time = self._model.front_end(waveform, lengths)
            log_probs, frames = self._model.log_probs(spectrogram, time, self._model.streaming)
        return _padded([row[:count] for row, count in zip(log_probs.numpy(), frames.tolist(), strict=True)])


def utterances(data: Utterances, decoder: Decoder) -> Iterator[Arrays]:
    """Batches of real utterances, as the graphs of whole recordings take them."""
    spoken = Spoken(data, decoder.vocabulary)
    for drawn in evenly(data, data.subset("valid")[:PROVED], seconds=SECONDS):
        batch = spoken[drawn]
        yield {"waveform": batch.waveform.numpy(), "lengths": batch.lengths.numpy()}


def candidates(model: Recogniser, data: Utterances, decoder: Decoder) -> Iterator[Arrays]:
    """Real utterances one by one, encoded, with what the beam finds in each, as the rescoring graph takes them."""
    decode = decoder.build()
    for batch in utterances(data, decoder):
        with torch.inference_mode():
            heard = model.front_end(*(torch.from_numpy(np.asarray(batch[name])) for name in ("waveform", "lengths")))
            encoded, frames = model.encode(*heard)
            log_probs = model.read(encoded)
        for states, row, count in zip(encoded.numpy(), log_probs.numpy(), frames.tolist(), strict=True):
            texts = [decoder.vocabulary.encode(each.text) for each in decode.nbest(row[:count], count=CANDIDATES)]
            yield {"encoded": states[:count], "tokens": padded(texts)}


def changed_texts(decoder: Decoder) -> Callable[[Arrays, Arrays], int]:
    """Counts the utterances of which the two log-probabilities give different texts."""
    decode = decoder.build()

    def changed(want: Arrays, got: Arrays) -> int:
        lengths = want["frames"].tolist()
        pairs = zip(want["log_probs"], got["log_probs"], lengths, strict=True)
        return sum(decode(a[:length]).text != decode(b[:length]).text for a, b, length in pairs)

    return changed


def changed_favourites(name: str) -> Callable[[Arrays, Arrays], int]:
    """Counts the rows of an output whose highest value lies elsewhere, by more than rounding."""

    def changed(want: Arrays, got: Arrays) -> int:
        a, b = (np.atleast_2d(answer[name].astype(np.float64)) for answer in (want, got))
        theirs = np.take_along_axis(a, b.argmax(-1)[..., None], -1)[..., 0]
        return int((a.max(-1) - theirs > TOLERANCE).reshape(len(a), -1).any(1).sum())

    return changed


def _padded(rows: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    log_probs = np.zeros((len(rows), max(map(len, rows)), rows[0].shape[1]), np.float32)
    for into, row in zip(log_probs, rows, strict=True):
        into[: len(row)] = row
    return {"log_probs": log_probs, "frames": np.array([len(row) for row in rows])}
