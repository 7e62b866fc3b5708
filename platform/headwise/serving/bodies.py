"""Request bodies: how much of one is read, and how JSON becomes a typed value or a clear refusal."""

from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from headwise.serving.problems import Refusal

T = TypeVar("T")


def limited(request: Request, max_bytes: int) -> Request:
    """The same request, whose body raises as soon as it is known to be longer than `max_bytes`.

    Raises:
        Refusal: 413, at once when `Content-Length` says so, otherwise while the body is read.
    """
    refusal = Refusal(413, f"the request's body is longer than {max_bytes} bytes, the most this route reads")
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > max_bytes:
        raise refusal
    read = 0

    async def receive() -> Message:
        nonlocal read
        message = await request.receive()
        read += len(message.get("body", b""))
        if read > max_bytes:
            raise refusal
        return message

    return Request(request.scope, receive)


async def read_json(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    """The body as the decoder's type.

    Raises:
        Refusal: 415 for another content type, 400 for what is not JSON, 422 for JSON of another shape.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Refusal(415, f"the body is {kind or 'of no type'}; send JSON with Content-Type: application/json")
    body = await request.body()
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Refusal(422, f"the body does not fit: {error}; /docs shows what is expected") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}") from error


def json_response(value: Any) -> Response:
    """A 200 with a msgspec value as JSON."""
    return Response(msgspec.json.encode(value), media_type="application/json")
