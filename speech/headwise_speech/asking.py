"""How the recogniser is asked: OpenAI's form, and what OpenAPI says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import FormData, UploadFile

from headwise.errors import InputError, NotFound
from headwise.serving.openapi import problem_responses
from headwise_speech.answers import FORMATS
from headwise_speech.decoding import parse_hotwords

EXPLAINED_FORMATS = TIMED_FORMATS = ("json", "verbose_json")
GRANULARITIES = ("word", "segment")


@dataclass(frozen=True)
class Asked:
    """What a client wants to know of a recording.

    Args:
        response_format: of the answer.
        words: when each was said, and how sure that is.
        explain: also which frames carried each word.
        hotwords: what to expect, with boosts.
    """

    response_format: str = "verbose_json"
    words: bool = False
    explain: bool = False
    hotwords: Mapping[str, float] = field(default_factory=dict)


def asked(form: FormData, model: str) -> Asked:
    """What a form asks for.

    Raises:
        NotFound: it is for another model.
        InputError: a field holds what it cannot hold.
    """
    if form.get("model", model) != model:
        raise NotFound(f"there is no model {_told(form['model'])} here; the one that listens is {model!r}")
    response_format = _choice(form, "response_format", FORMATS, "json")
    explain = _choice(form, "explain", ("true", "false"), "false") == "true"
    if explain and response_format not in EXPLAINED_FORMATS:
        raise InputError(f"response_format {response_format} cannot explain; {', '.join(EXPLAINED_FORMATS)} can")
    granularities = form.getlist("timestamp_granularities[]")
    if odd := [each for each in granularities if each not in GRANULARITIES]:
        raise InputError(f"timestamp_granularities[] is {_told(odd[0])}; it can be {', '.join(GRANULARITIES)}")
    if granularities and response_format not in TIMED_FORMATS:
        raise InputError(f"response_format {response_format} has no list of times; {', '.join(TIMED_FORMATS)} have")
    hotwords = form.get("hotwords", "")
    if not isinstance(hotwords, str):
        raise InputError("hotwords is a file; send its text, as curl does with --form 'hotwords=<FILE'")
    return Asked(response_format, "word" in granularities, explain, parse_hotwords(hotwords))


def upload(form: FormData) -> UploadFile:
    """The recording of a form.

    Raises:
        InputError: there is none, or it is empty.
    """
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise InputError("there is no recording; send one as a file in the field `file`")
    if not file.size:
        raise InputError(f"{file.filename or 'the recording'}: holds 0 bytes; send a WAV, FLAC, OGG or MP3 file")
    return file


def operation(answers: list[dict[str, Any]], model: str, *, description: str) -> dict[str, Any]:
    """The OpenAPI operation.

    Args:
        answers: schemas of the JSON answers.
        model: the one that listens.
        description: what recordings are taken.
    """
    subtitles = {"schema": {"type": "string"}, "example": "WEBVTT\n\n00:00:00.480 --> 00:00:01.720\nSEVEN THREE ONE\n"}
    content = {
        "application/json": {"schema": {"anyOf": answers}, "example": {"text": "SEVEN THREE ONE"}},
        "text/plain": {"schema": {"type": "string"}, "example": "SEVEN THREE ONE\n"},
        "text/vtt": subtitles,
    }
    form = {"schema": _form(model), "example": {"model": model, "response_format": "json"}}
    return {
        "summary": "The words in a recording",
        "description": description,
        "operationId": "transcribe",
        "tags": ["recogniser"],
        "requestBody": {"required": True, "content": {"multipart/form-data": form}},
        "responses": {
            "200": {"description": "The text, in the format asked for.", "content": content},
            **problem_responses(404, 503),
        },
    }


def _form(model: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "string", "format": "binary", "description": "WAV, FLAC, OGG or MP3; any sample rate."},
            "model": {"type": "string", "default": model, "description": "The model's name, as in `/v1/models`."},
            "response_format": {"type": "string", "enum": list(FORMATS), "default": "json"},
            "timestamp_granularities[]": {
                "type": "array",
                "items": {"type": "string", "enum": list(GRANULARITIES)},
                "description": "With `word`, add each word's time and confidence; `verbose_json` has segments anyway.",
            },
            "hotwords": {
                "type": "string",
                "description": "Phrases to expect, one a line; after a tab, how much for each letter (a natural logarithm).",
                "example": "RUBOUT\nENTER SIX\t2.5",
            },
            "explain": {
                "type": "boolean",
                "default": False,
                "description": "Add when each word was said and which frames carried it, in `words`.",
            },
        },
    }


def _choice(form: FormData, name: str, choices: tuple[str, ...], default: str) -> str:
    value = form.get(name, default)
    if value not in choices:
        raise InputError(f"{name} is {_told(value)}; it can be {', '.join(choices)}")
    return str(value)


def _told(value: object) -> str:
    return repr(value)[:64] if isinstance(value, str) else "a file"
