"""The recogniser that answers requests: a recording in, its words out. NumPy, soundfile and ONNX Runtime, no torch."""

import asyncio
import math
import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response

from headwise.errors import InputError, NotFound
from headwise.examples import Examples
from headwise.model_folder import ModelCard, read_card
from headwise.serving.batching import Batcher
from headwise.serving.explanation import Explanation
from headwise.serving.inference import Inference
from headwise.serving.problems import Refusal
from headwise.serving.service import Endpoint, Socket
from headwise.serving.session import Session
from headwise_speech import audio
from headwise_speech.alignment import WordFrames
from headwise_speech.answers import Transcription, VerboseTranscription, Word, response, segments
from headwise_speech.asking import Asked, asked, operation, upload
from headwise_speech.decoding import HotWords, read_decoder
from headwise_speech.live import Live
from headwise_speech.rescoring import Encoded, TwoPass, read_rescorer
from headwise_speech.streaming import Streamer, read_streamer
from headwise_speech.transcription import TimedWord, Transcriber

KIND = "recogniser"
PATH = "/v1/audio/transcriptions"
GRAPH = "recogniser.onnx"
INPUTS = ("waveform", "lengths")
OUTPUTS = ("log_probs", "frames")
ENCODED = "encoded"  # a third, where an attention decoder judges what the search found
PLAIN = Asked()
MAX_EXPLAINED = 60  # seconds of a recording that is explained; memory is quadratic, 0.3 GB here
MAX_EXPLAINING = 8  # explanations that wait; each takes seconds
MAX_BYTES = 25 << 20  # of an upload, as OpenAI has it
MAX_TENSORS = {"batch": 8, "seconds": 60}  # that clients of the graph itself may send at once
MAX_REQUESTS = 32  # each may hold an upload in memory
MAX_BATCH = 1  # eight recordings of 10 s take a CPU as long together as one after another, and the first would wait for the last
SHORTEST = (
    audio.SAMPLE_RATE // 10
)  # samples; shorter waveforms are padded, for the graph's convolutions need something to read

Waveform = npt.NDArray[np.float32]  # [samples], 16 kHz
LogProbs = npt.NDArray[np.float32]  # [frames, vocab], of real frames only
Attention = npt.NDArray[np.float32]  # [frames, frames], of which the last ones may be padding


class Listened(NamedTuple):
    """What the graph makes of a recording; `encoded` where an attention decoder judges it."""

    log_probs: LogProbs
    encoded: Encoded | None


class Recogniser:
    """A recogniser folder, loaded; a `headwise.serving.service.Service`. Made by `load`."""

    kind = KIND

    def __init__(
        self,
        card: ModelCard,
        session: Session,
        explanation: Explanation,
        transcriber: Transcriber,
        streamer: Streamer | None,
        *,
        name: str,
        version: str | None,
        max_seconds: float,
    ) -> None:
        self.card = card
        self.name = name
        self.version = version
        self.max_seconds = max_seconds
        self.batcher: Batcher[Waveform, Listened] = Batcher(self._listen, shape=_shape, max_batch=MAX_BATCH)
        self._explaining: Batcher[Waveform, Attention] = Batcher(
            lambda asked: [self._explain(each) for each in asked], max_batch=1, max_queue=MAX_EXPLAINING
        )
        samples = int(min(max_seconds, MAX_TENSORS["seconds"]) * audio.SAMPLE_RATE)
        most = {"waveform": (MAX_TENSORS["batch"], samples)}
        self.inference = Inference(session, model=name, version=version, most=most)
        self._session = session
        self._explanation = explanation
        self._transcriber = transcriber
        self._live = None if streamer is None else Live(streamer, transcriber)

    def transcribe(
        self, source: Path | bytes, wanted: Asked = PLAIN, *, name: str | None = None
    ) -> tuple[VerboseTranscription, list[TimedWord]]:
        """The words in a recording, whatever its sample rate and channels; and when each was said.

        Args:
            source: a file's path, or its bytes.
            wanted: what the answer holds beside the text.
            name: what messages call it; the path by default.

        Raises:
            NotFound: there is no such file.
            InputError: it is not audio, is damaged, or is longer than `max_seconds`; to be explained, it is longer than
                `MAX_EXPLAINED` seconds, or the model is without explanations; or hot words cannot be written.
        """
        hot = self._hot(wanted)
        waveform = self._waveform(source, name, wanted.explain)
        [listened] = self._listen([waveform])
        attention = self._explain(waveform) if wanted.explain else None
        return self._transcription(wanted, hot, waveform, listened, attention)

    def hear(self, waveform: Waveform) -> str:
        """The words in a waveform of 16 kHz within -1..1."""
        return self._transcriber(waveform, *self._listen([waveform])[0]).text

    def align(self, source: Path | bytes, text: str, *, name: str | None = None) -> tuple[float, list[TimedWord]]:
        """A recording's seconds, and when each word of a known text was said in it.

        Args:
            source: a file's path, or its bytes.
            text: what was said.
            name: what messages call the recording; the path by default.

        Raises:
            NotFound: there is no such file.
            InputError: it is not audio, is damaged, or too long; the text has no words, or no alignment to it.
        """
        waveform = self._waveform(source, name, False)
        [listened] = self._listen([waveform])
        seconds = round(len(waveform) / audio.SAMPLE_RATE, 3)
        return seconds, self._transcriber.aligned(waveform, listened.log_probs, text)

    @property
    def endpoints(self) -> list[Endpoint]:
        """`POST /v1/audio/transcriptions`."""
        (short, verbose), schemas = msgspec.json.schema_components(
            [Transcription, VerboseTranscription], ref_template="#/components/schemas/{name}"
        )
        description = (
            f"OpenAI's form. Recordings last {self.max_seconds:g} s and measure {MAX_BYTES >> 20} MiB at most; longer ones "
            f"are refused before they are decoded. To be explained, a recording lasts {MAX_EXPLAINED} s at most, and the answer "
            "takes longer. Other fields of OpenAI's form are accepted and change nothing."
        )
        described = operation([short, verbose], self.name, description=description)
        return [Endpoint(PATH, self._answer, described, schemas, MAX_BYTES, MAX_REQUESTS)]

    @property
    def sockets(self) -> list[Socket]:
        """`/v1/audio/stream`, of a model that was trained to stream."""
        return [self._live.socket] if self._live else []

    def agreement(self, first: bytes, second: bytes) -> float:
        """1 where two answers have the same text, else 0; of answers that are not JSON, the bytes count."""
        try:
            mine, theirs = (msgspec.json.decode(body)["text"] for body in (first, second))
        except (msgspec.DecodeError, TypeError, KeyError):
            mine, theirs = first, second
        return float(mine == theirs)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Warms the graph up, then answers requests inside the block."""
        self._listen([np.zeros(audio.SAMPLE_RATE, np.float32)])
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="audio") as self._pool:
            live = self._live.running() if self._live else nullcontext()
            async with self.batcher.running(), self._explaining.running(), live:
                yield

    async def _answer(self, request: Request) -> Response:
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise Refusal(415, "send the recording as multipart/form-data, in the field `file`")
        async with request.form(max_files=1, max_fields=16, max_part_size=1 << 16) as form:
            wanted, file = asked(form, self.name), upload(form)
            content = await file.read()
        loop, hot = asyncio.get_running_loop(), self._hot(wanted)
        waveform = await loop.run_in_executor(
            self._pool, self._waveform, content, file.filename or None, wanted.explain
        )
        listened = await self.batcher.submit(waveform)
        attention = await self._explaining.submit(waveform) if wanted.explain else None
        answer, words = await loop.run_in_executor(
            self._pool, self._transcription, wanted, hot, waveform, listened, attention
        )
        return response(answer, words, wanted.response_format)

    def _hot(self, wanted: Asked) -> HotWords | None:
        return HotWords(wanted.hotwords, self._transcriber.vocabulary) if wanted.hotwords else None

    def _waveform(self, source: Path | bytes, name: str | None, explain: bool) -> Waveform:
        try:
            seconds = audio.duration(source, name=name)
        except NotFound:
            raise
        except InputError as error:
            raise Refusal(415, str(error)) from error
        most = min(self.max_seconds, MAX_EXPLAINED) if explain else self.max_seconds
        if most < seconds < math.inf:
            label = name or (source if isinstance(source, Path) else "the recording")
            done = "explained" if most < self.max_seconds else "accepted"
            detail = f"{label}: lasts {seconds:.1f} s, at most {most:g} s are {done}; cut it into pieces"
            raise Refusal(413, detail, max_seconds=most)
        return audio.decode(source, name=name, max_seconds=None if math.isinf(most) else most)

    def _listen(self, waveforms: Sequence[Waveform]) -> list[Listened]:
        log_probs, frames, *encoded = self._session.run(**_batch(waveforms))
        states = encoded[0] if encoded else [None] * len(log_probs)
        rows = zip(log_probs, states, frames.tolist(), strict=True)
        return [Listened(row[:count], None if state is None else state[:count]) for row, state, count in rows]

    def _explain(self, waveform: Waveform) -> Attention:
        attention: Attention = self._explanation.attention(**_batch([waveform]))[0]
        return attention

    def _transcription(
        self,
        wanted: Asked,
        hot: HotWords | None,
        waveform: Waveform,
        listened: Listened,
        attention: Attention | None,
    ) -> tuple[VerboseTranscription, list[TimedWord]]:
        heard, words, frames = self._transcriber.timed(waveform, *listened, hot=hot)
        answer = VerboseTranscription(
            text=heard.text,
            duration=round(len(waveform) / audio.SAMPLE_RATE, 3),
            score=heard.score,
            segments=segments(words, self._transcriber.vocabulary),
            model=self.name,
            version=self.version,
        )
        if attention is not None:
            shares = attention[:, : len(listened.log_probs)]
            told = [_told(word, _carried(shares, each)) for word, each in zip(words, frames, strict=True)]
            answer = msgspec.structs.replace(answer, words=told, hop=self._transcriber.hop)
        elif wanted.words:
            answer = msgspec.structs.replace(answer, words=[_told(word) for word in words])
        return answer, words


def load(
    folder: Path, *, name: str = KIND, version: str | None = None, threads: int = 1, max_seconds: float = 60.0
) -> Recogniser:
    """The recogniser in a model folder, ready to listen.

    Args:
        folder: a model folder of kind "recogniser".
        name: what clients call it.
        version: its version in the registry.
        threads: for one run of the graph.
        max_seconds: the longest recording to accept; infinite for no limit.

    Raises:
        NotFound: there is no model folder.
        InputError: it is of another kind, damaged, or from another version of headwise.
    """
    card = read_card(folder)
    if card.kind != KIND:
        raise InputError(f"{folder}: a {card.kind}, a {KIND} is needed here")
    if card.settings.get("sample_rate") != audio.SAMPLE_RATE:
        raise InputError(
            f"{folder}/model.json: settings.sample_rate is {card.settings.get('sample_rate')!r}; "
            f"this version of headwise serves {audio.SAMPLE_RATE}"
        )
    judged = "rescoring" in card.settings
    outputs = (*OUTPUTS, ENCODED) if judged else OUTPUTS
    session = Session(folder / GRAPH, inputs=INPUTS, outputs=outputs, threads=threads)
    if kept := Examples.load(folder):
        kept.check(session.run, outputs, folder / GRAPH)
    explanation = Explanation(folder, card, inputs=INPUTS, threads=threads)
    if "hop" not in card.settings:
        raise InputError(f"{folder}/model.json: settings.hop is missing, as an earlier headwise wrote it; export again")
    decoder = read_decoder(folder, card.settings)
    rescorer = None
    if judged:
        weight = card.settings["rescoring"]["weight"]
        rescorer = read_rescorer(folder, decoder.vocabulary, weight=weight, threads=threads)
    transcriber = Transcriber(
        TwoPass(decoder, rescorer),
        hop=card.settings["hop"] / audio.SAMPLE_RATE,
        voice=card.settings.get("voice", False),
    )
    streamer = read_streamer(folder, threads=threads) if "stream" in card.settings else None
    return Recogniser(
        card, session, explanation, transcriber, streamer, name=name, version=version, max_seconds=max_seconds
    )


def _batch(waveforms: Sequence[Waveform]) -> dict[str, npt.NDArray[Any]]:
    batch = np.zeros((len(waveforms), max(SHORTEST, *map(len, waveforms))), np.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return {"waveform": batch, "lengths": np.array([len(waveform) for waveform in waveforms], np.int64)}


def _told(word: TimedWord, attention: list[float] | msgspec.UnsetType = msgspec.UNSET) -> Word:
    return Word(**word._asdict(), attention=attention)


def _carried(attention: Attention, word: WordFrames) -> list[float]:
    shares: list[float] = attention[word.first : word.end].mean(0, dtype=np.float64).round(6).tolist()
    return shares


def _shape(waveform: Waveform) -> int:
    return len(waveform).bit_length()
