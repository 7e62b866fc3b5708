"""The recogniser that answers requests: a recording in, its words out. NumPy, soundfile and ONNX Runtime, no torch."""

import asyncio
import math
import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from headwise.errors import InputError, NotFound
from headwise.model_folder import ModelCard, read_card
from headwise.serving.batching import Batcher
from headwise.serving.bodies import json_response
from headwise.serving.explanation import Explanation
from headwise.serving.inference import Inference
from headwise.serving.openapi import problem_responses
from headwise.serving.problems import Refusal
from headwise.serving.service import Endpoint
from headwise.serving.session import Session
from headwise_speech import audio
from headwise_speech.alignment import WordFrames, word_frames
from headwise_speech.decoding import Decoder, read_decoder

KIND = "recogniser"
PATH = "/v1/audio/transcriptions"
GRAPH = "recogniser.onnx"
INPUTS = ("waveform", "lengths")
OUTPUTS = ("log_probs", "frames")
FORMATS = ("json", "text", "verbose_json")
EXPLAINED_FORMATS = ("json", "verbose_json")
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


class Word(msgspec.Struct, frozen=True):
    """A word, when it was said, and what carried it."""

    word: str
    start: Annotated[float, msgspec.Meta(description="seconds")]
    end: Annotated[float, msgspec.Meta(description="seconds")]
    attention: Annotated[
        list[float],
        msgspec.Meta(
            description="the share of every frame of the recording in what the model looked at for this word's frames, by "
            "attention rollout; the shares sum to 1"
        ),
    ]


Words = Annotated[
    list[Word] | msgspec.UnsetType,
    msgspec.Meta(description="with `explain`: the words, by the likeliest alignment of the text"),
]
Hop = Annotated[float | msgspec.UnsetType, msgspec.Meta(description="with `explain`: seconds from frame to frame")]


class Transcription(msgspec.Struct, frozen=True):
    """What `POST /v1/audio/transcriptions` answers with `response_format=json`."""

    text: str
    words: Words = msgspec.UNSET
    hop: Hop = msgspec.UNSET


class Segment(msgspec.Struct, frozen=True):
    """A stretch of the recording; for now there is one, the whole."""

    id: int
    start: Annotated[float, msgspec.Meta(description="seconds")]
    end: Annotated[float, msgspec.Meta(description="seconds")]
    text: str


class VerboseTranscription(msgspec.Struct, frozen=True):
    """What `POST /v1/audio/transcriptions` answers with `response_format=verbose_json`."""

    text: str
    duration: Annotated[float, msgspec.Meta(description="of the recording, in seconds")]
    score: Annotated[float, msgspec.Meta(description="the decoder's log probability of the text")]
    segments: list[Segment]
    model: str
    version: str | None
    task: str = "transcribe"
    words: Words = msgspec.UNSET
    hop: Hop = msgspec.UNSET


class Recogniser:
    """A recogniser folder, loaded; a `headwise.serving.service.Service`. Made by `load`."""

    kind = KIND

    def __init__(
        self,
        card: ModelCard,
        session: Session,
        explanation: Explanation,
        decoder: Decoder,
        *,
        name: str,
        version: str | None,
        max_seconds: float,
    ) -> None:
        self.card = card
        self.name = name
        self.version = version
        self.max_seconds = max_seconds
        self.batcher: Batcher[Waveform, LogProbs] = Batcher(self._listen, shape=_shape, max_batch=MAX_BATCH)
        self._explaining: Batcher[Waveform, Attention] = Batcher(
            lambda asked: [self._explain(each) for each in asked], max_batch=1, max_queue=MAX_EXPLAINING
        )
        samples = int(min(max_seconds, MAX_TENSORS["seconds"]) * audio.SAMPLE_RATE)
        most = {"waveform": (MAX_TENSORS["batch"], samples)}
        self.inference = Inference(session, model=name, version=version, most=most)
        self._session = session
        self._explanation = explanation
        self._decoder = decoder

    def transcribe(
        self, source: Path | bytes, *, name: str | None = None, explain: bool = False
    ) -> VerboseTranscription:
        """The words in a recording, whatever its sample rate and channels.

        Args:
            source: a file's path, or its bytes.
            name: what messages call it; the path by default.
            explain: add when each word was said, and which frames carried it.

        Raises:
            NotFound: there is no such file.
            InputError: it is not audio, is damaged, or is longer than `max_seconds`; to be explained, it is longer than
                `MAX_EXPLAINED` seconds, or the model is without explanations.
        """
        waveform = self._waveform(source, name, explain)
        [log_probs] = self._listen([waveform])
        return self._transcription(waveform, log_probs, self._explain(waveform) if explain else None)

    def hear(self, waveform: Waveform) -> str:
        """The words in a waveform of 16 kHz within -1..1."""
        return self._decoder(self._listen([waveform])[0]).text

    @property
    def endpoints(self) -> list[Endpoint]:
        """`POST /v1/audio/transcriptions`."""
        (short, verbose), schemas = msgspec.json.schema_components(
            [Transcription, VerboseTranscription], ref_template="#/components/schemas/{name}"
        )
        operation = _operation(short, verbose, self.name, self.max_seconds)
        return [Endpoint(PATH, self._answer, operation, schemas, MAX_BYTES, MAX_REQUESTS)]

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
            async with self.batcher.running(), self._explaining.running():
                yield

    async def _answer(self, request: Request) -> Response:
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise Refusal(415, "send the recording as multipart/form-data, in the field `file`")
        async with request.form(max_files=1, max_fields=16, max_part_size=1 << 16) as form:
            (response_format, explain), upload = self._options(form), _upload(form)
            content = await upload.read()
        loop = asyncio.get_running_loop()
        waveform = await loop.run_in_executor(self._pool, self._waveform, content, upload.filename or None, explain)
        log_probs = await self.batcher.submit(waveform)
        attention = await self._explaining.submit(waveform) if explain else None
        answer = await loop.run_in_executor(self._pool, self._transcription, waveform, log_probs, attention)
        return _response(answer, response_format)

    def _options(self, form: FormData) -> tuple[str, bool]:
        model = form.get("model", self.name)
        if model != self.name:
            raise NotFound(f"there is no model {_told(model)} here; the one that listens is {self.name!r}")
        response_format = form.get("response_format", "json")
        if response_format not in FORMATS:
            raise InputError(f"response_format is {_told(response_format)}; it can be {', '.join(FORMATS)}")
        explain = form.get("explain", "false")
        if explain not in ("true", "false"):
            raise InputError(f"explain is {_told(explain)}; it can be true, false")
        if explain == "true" and response_format not in EXPLAINED_FORMATS:
            raise InputError(f"response_format {response_format} cannot explain; {', '.join(EXPLAINED_FORMATS)} can")
        return str(response_format), explain == "true"

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

    def _listen(self, waveforms: Sequence[Waveform]) -> list[LogProbs]:
        log_probs, frames = self._session.run(**_batch(waveforms))
        return [row[:count] for row, count in zip(log_probs, frames.tolist(), strict=True)]

    def _explain(self, waveform: Waveform) -> Attention:
        attention: Attention = self._explanation.attention(**_batch([waveform]))[0]
        return attention

    def _transcription(
        self, waveform: Waveform, log_probs: LogProbs, attention: Attention | None
    ) -> VerboseTranscription:
        heard = self._decoder(log_probs)
        seconds = round(len(waveform) / audio.SAMPLE_RATE, 3)
        segments = [Segment(0, 0.0, seconds, heard.text)] if heard.text else []
        answer = VerboseTranscription(heard.text, seconds, heard.score, segments, self.name, self.version)
        if attention is None:
            return answer
        hop = self.card.settings["hop"] / audio.SAMPLE_RATE  # export writes it with the explanation
        words = [
            _word(each, attention[:, : len(log_probs)], hop, seconds)
            for each in word_frames(log_probs, heard.text, self._decoder.vocabulary)
        ]
        return msgspec.structs.replace(answer, words=words, hop=hop)


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
    session = Session(folder / GRAPH, inputs=INPUTS, outputs=OUTPUTS, threads=threads)
    explanation = Explanation(folder, card, inputs=INPUTS, threads=threads)
    decoder = read_decoder(folder, card.settings)
    return Recogniser(card, session, explanation, decoder, name=name, version=version, max_seconds=max_seconds)


def _batch(waveforms: Sequence[Waveform]) -> dict[str, npt.NDArray[Any]]:
    batch = np.zeros((len(waveforms), max(SHORTEST, *map(len, waveforms))), np.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return {"waveform": batch, "lengths": np.array([len(waveform) for waveform in waveforms], np.int64)}


def _word(said: WordFrames, attention: Attention, hop: float, seconds: float) -> Word:
    start, end = (min(round(edge * hop, 3), seconds) for edge in (said.first, said.end))
    shares = attention[said.first : said.end].mean(0, dtype=np.float64)
    return Word(said.word, start, end, shares.round(6).tolist())


def _upload(form: FormData) -> UploadFile:
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
        raise InputError("there is no recording; send one as a file in the field `file`")
    if not upload.size:
        raise InputError(f"{upload.filename or 'the recording'}: holds 0 bytes; send a WAV, FLAC, OGG or MP3 file")
    return upload


def _told(value: object) -> str:
    return repr(value)[:64] if isinstance(value, str) else "a file"


def _shape(waveform: Waveform) -> int:
    return len(waveform).bit_length()


def _response(answer: VerboseTranscription, response_format: str) -> Response:
    match response_format:
        case "text":
            return PlainTextResponse(f"{answer.text}\n")
        case "json":
            return json_response(Transcription(answer.text, answer.words, answer.hop))
    return json_response(answer)


def _operation(short: dict[str, Any], verbose: dict[str, Any], model: str, max_seconds: float) -> dict[str, Any]:
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "string", "format": "binary", "description": "WAV, FLAC, OGG or MP3; any sample rate."},
            "model": {"type": "string", "default": model, "description": "The model's name, as in `/v1/models`."},
            "response_format": {"type": "string", "enum": list(FORMATS), "default": "json"},
            "explain": {
                "type": "boolean",
                "default": False,
                "description": "Add when each word was said and which frames carried it, in `words`; not with `text`.",
            },
        },
    }
    formats = {
        "application/json": {"schema": {"anyOf": [short, verbose]}, "example": {"text": "SEVEN THREE ONE"}},
        "text/plain": {"schema": {"type": "string"}, "example": "SEVEN THREE ONE\n"},
    }
    return {
        "summary": "The words in a recording",
        "description": (
            f"OpenAI's form. Recordings last {max_seconds:g} s and measure {MAX_BYTES >> 20} MiB at most; longer ones "
            f"are refused before they are decoded. To be explained, a recording lasts {MAX_EXPLAINED} s at most, and the answer "
            "takes longer. Other fields of OpenAI's form are accepted and change nothing."
        ),
        "operationId": "transcribe",
        "tags": [KIND],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form, "example": {"model": model, "response_format": "json"}}
            },
        },
        "responses": {
            "200": {"description": "The text, in the format asked for.", "content": formats},
            **problem_responses(404, 503),
        },
    }
