"""Live recognition over a websocket: samples in as they are spoken, text out while they are.

client   binary messages   16-bit little-endian samples of one channel, pieces of any length; `?rate=` says how many a second
         {"type": "end"}   no more will come
server   {"type": "partial", "text", "start"}                    the utterance so far; what it says may still change
         {"type": "final", "text", "start", "end", "words"}      an utterance, when it has ended
         {"type": "end", "duration"}, then the connection is closed
         {"type": "error", "detail"}, likewise
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import soxr
from starlette.websockets import WebSocket, WebSocketDisconnect

from headwise.errors import HeadwiseError, InputError
from headwise.serving.batching import Batcher
from headwise.serving.service import Socket
from headwise_speech.answers import Word
from headwise_speech.audio import SAMPLE_RATE
from headwise_speech.streaming import Endpointing, Heard, Stream, Streamer
from headwise_speech.transcription import TimedWord, Transcriber

PATH = "/v1/audio/stream"
RATES = range(8_000, 48_001)  # samples a second
MAX_OPEN = 2048  # connections
MAX_BATCH = 16  # streams that advance together
IDLE = 60.0  # seconds without a message after which a connection is closed
FULL_SCALE = 32_768
DONE, LEFT, WRONG, FAILED = 1000, 1001, 1008, 1011  # why a connection is closed (RFC 6455, section 7.4.1)

log = logging.getLogger(__name__)


class Partial(msgspec.Struct, frozen=True, tag="partial"):
    """An utterance so far."""

    text: str
    start: float  # seconds from the beginning of the stream


class Final(msgspec.Struct, frozen=True, tag="final"):
    """An utterance."""

    text: str
    start: float
    end: float
    words: list[Word]


class Ended(msgspec.Struct, frozen=True, tag="end"):
    """All has been heard."""

    duration: float


class Failure(msgspec.Struct, frozen=True, tag="error"):
    """Why no more is heard."""

    detail: str


class End(msgspec.Struct, frozen=True, tag="end"):
    """What a client says when no more will come."""


class Live:
    """The live side of a recogniser.

    Args:
        streamer: hears chunks.
        transcriber: reads each utterance again when it has ended, with the decoder of whole recordings.
        idle: seconds without a message after which a connection is closed.
    """

    def __init__(self, streamer: Streamer, transcriber: Transcriber, *, idle: float = IDLE) -> None:
        self.streamer, self.transcriber, self.idle = streamer, transcriber, idle
        self.batcher: Batcher[Stream, Heard] = Batcher(streamer.advance, max_batch=MAX_BATCH, max_queue=MAX_OPEN)

    @property
    def socket(self) -> Socket:
        """`/v1/audio/stream`."""
        return Socket(PATH, self._converse, MAX_OPEN)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Warms the graph up, then hears streams inside the block."""
        self.streamer.open().feed(np.zeros(self.streamer.form.window, np.float32))
        async with self.batcher.running():
            yield

    async def _converse(self, socket: WebSocket) -> None:
        await socket.accept()
        try:
            await _Conversation(socket, self, _rate(socket.query_params.get("rate", str(SAMPLE_RATE)))).hold()
        except WebSocketDisconnect:
            pass
        except TimeoutError:
            await _close(
                socket, LEFT, f"nothing came for {self.idle:g} s; connect again when there is something to hear"
            )
        except HeadwiseError as error:
            await _close(socket, WRONG, str(error))
        except Exception:
            log.exception("request %s: a stream failed", socket.state.request_id)
            await _close(socket, FAILED, f"an error of ours; the server's log has it under {socket.state.request_id}")


class _Conversation:
    def __init__(self, socket: WebSocket, live: Live, rate: int) -> None:
        self._socket, self._live = socket, live
        self._resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
        self._stream = live.streamer.open(Endpointing())
        self._heard = 0  # samples
        # Of the utterance that is being said:
        self._began = 0
        self._waveform = np.zeros(0, np.float32)
        self._log_probs: list[npt.NDArray[np.float32]] = []
        self._text = ""

    async def hold(self) -> None:
        while (samples := await self._receive()) is not None:
            await self._hear(self._resampled(samples, last=False))
        await self._hear(self._resampled(np.zeros(0, np.float32), last=True), last=True)
        await self._say(Ended(_seconds(self._heard)))
        await self._socket.close(DONE)

    async def _receive(self) -> npt.NDArray[np.float32] | None:
        """Samples, or None when no more will come."""
        async with asyncio.timeout(self._live.idle):
            message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"])
        if (text := message.get("text")) is not None:
            _check_end(text)
            return None
        data: bytes = message["bytes"]
        if len(data) % 2:
            raise InputError(f"a message of {len(data)} bytes: 16-bit samples are two bytes each")
        samples: npt.NDArray[np.float32] = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(FULL_SCALE)
        return samples

    def _resampled(self, samples: npt.NDArray[np.float32], last: bool) -> npt.NDArray[np.float32]:
        return samples if self._resampler is None else self._resampler.resample_chunk(samples, last=last)

    async def _hear(self, samples: npt.NDArray[np.float32], last: bool = False) -> None:
        self._heard += len(samples)
        self._waveform = np.concatenate([self._waveform, samples])
        self._stream.push(samples)
        if last:
            self._stream.end()
        while self._stream.ready:
            await self._tell(await self._live.batcher.submit(self._stream))

    async def _tell(self, heard: Heard) -> None:
        self._log_probs.append(heard.log_probs)
        if heard.over:
            if final := await asyncio.to_thread(self._read_again):
                await self._say(final)
            self._text = ""
        elif heard.text != self._text:
            self._text = heard.text
            await self._say(Partial(heard.text, _seconds(self._began)))

    def _read_again(self) -> Final | None:
        log_probs = np.concatenate(self._log_probs)
        length = min(len(log_probs) * self._live.streamer.form.hop, len(self._waveform))
        waveform, self._waveform = self._waveform[:length], self._waveform[length:]
        began, self._began, self._log_probs = self._began, self._began + length, []
        if not length:
            return None
        hypothesis, words, _ = self._live.transcriber.timed(waveform, log_probs)
        if not hypothesis.text:
            return None
        told = [_shifted(word, _seconds(began)) for word in words]
        return Final(hypothesis.text, told[0].start, told[-1].end, told)

    async def _say(self, message: msgspec.Struct) -> None:
        await self._socket.send_text(msgspec.json.encode(message).decode())


def _rate(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9]) in RATES):
        raise InputError(f"rate is {text[:32]!r}; samples a second, from {RATES[0]} to {RATES[-1]}, are needed")
    return int(text)


def _check_end(text: str) -> None:
    try:
        msgspec.json.decode(text, type=End)
    except msgspec.DecodeError as error:
        raise InputError(
            'a text message that is not {"type": "end"}; send samples as binary messages, and that when there are no more'
        ) from error


async def _close(socket: WebSocket, code: int, detail: str) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):  # the client may have left meanwhile
        await socket.send_text(msgspec.json.encode(Failure(detail)).decode())
        await socket.close(code)


def _shifted(word: TimedWord, seconds: float) -> Word:
    times: dict[str, Any] = {"start": round(word.start + seconds, 3), "end": round(word.end + seconds, 3)}
    return Word(**word._asdict() | times, attention=msgspec.UNSET)


def _seconds(samples: int) -> float:
    return round(samples / SAMPLE_RATE, 3)
