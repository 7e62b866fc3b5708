"""What the recogniser answers, in OpenAI's forms."""

import math
import zlib
from collections.abc import Sequence
from typing import Annotated

import msgspec
from starlette.responses import PlainTextResponse, Response

from headwise.serving.bodies import json_response
from headwise_speech.formats import Transcript, as_srt, as_text, as_vtt, cues
from headwise_speech.text import Vocabulary
from headwise_speech.transcription import TimedWord

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
SECONDS = msgspec.Meta(description="seconds")


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """A word, when it was said, and what carried it."""

    word: str
    start: Annotated[float, SECONDS]
    end: Annotated[float, SECONDS]
    confidence: Annotated[float, msgspec.Meta(description="how probable it is that it was said")]
    attention: Annotated[
        list[float] | msgspec.UnsetType,
        msgspec.Meta(
            description="with `explain`: the share of every frame of the recording in what the model looked at for this word's "
            "frames, by attention rollout; the shares sum to 1"
        ),
    ] = msgspec.UNSET


Words = Annotated[
    list[Word] | msgspec.UnsetType,
    msgspec.Meta(
        description="with `timestamp_granularities[]=word` or `explain`: the words, by the text's likeliest alignment"
    ),
]
Hop = Annotated[float | msgspec.UnsetType, msgspec.Meta(description="with `explain`: seconds from frame to frame")]


class Transcription(msgspec.Struct, frozen=True):
    """What `POST /v1/audio/transcriptions` answers with `response_format=json`."""

    text: str
    words: Words = msgspec.UNSET
    hop: Hop = msgspec.UNSET


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Words that follow each other without a pause; the fields of OpenAI's form that mean nothing here have one value."""

    id: int
    start: Annotated[float, SECONDS]
    end: Annotated[float, SECONDS]
    text: str
    tokens: Annotated[list[int], msgspec.Meta(description="of the recogniser's vocabulary")]
    avg_logprob: Annotated[float, msgspec.Meta(description="mean logarithm of its words' confidences")]
    compression_ratio: Annotated[float, msgspec.Meta(description="bytes of the text by those that zlib makes of it")]
    no_speech_prob: Annotated[float, msgspec.Meta(description="always 0: what is no speech is left out")] = 0.0
    seek: int = 0
    temperature: float = 0.0


class VerboseTranscription(msgspec.Struct, frozen=True, kw_only=True):
    """What `POST /v1/audio/transcriptions` answers with `response_format=verbose_json`."""

    text: str
    duration: Annotated[float, msgspec.Meta(description="of the recording, in seconds")]
    score: Annotated[float, msgspec.Meta(description="the decoder's logarithm of how probable the text is")]
    segments: list[Segment]
    model: str
    version: str | None
    task: str = "transcribe"
    language: Annotated[str, msgspec.Meta(description="always und: that of the training texts")] = "und"
    words: Words = msgspec.UNSET
    hop: Hop = msgspec.UNSET


def segments(words: Sequence[TimedWord], vocabulary: Vocabulary) -> list[Segment]:
    """Words in stretches between pauses."""
    found = []
    for number, cue in enumerate(cues(words)):
        logs = [math.log(max(word.confidence, 1e-3)) for word in cue.words]
        raw = cue.text.encode()
        found.append(
            Segment(
                id=number,
                start=cue.start,
                end=cue.end,
                text=cue.text,
                tokens=vocabulary.encode(cue.text),
                avg_logprob=round(sum(logs) / len(logs), 4),
                compression_ratio=round(len(raw) / len(zlib.compress(raw)), 4),
            )
        )
    return found


def response(answer: VerboseTranscription, words: Sequence[TimedWord], response_format: str) -> Response:
    """An answer in the form that was asked for."""
    transcript = Transcript(answer.text, answer.duration, words)
    match response_format:
        case "text":
            return PlainTextResponse(as_text(transcript))
        case "srt":
            return PlainTextResponse(as_srt(transcript))
        case "vtt":
            return PlainTextResponse(as_vtt(transcript), media_type="text/vtt")
        case "json":
            return json_response(Transcription(answer.text, answer.words, answer.hop))
    return json_response(answer)
