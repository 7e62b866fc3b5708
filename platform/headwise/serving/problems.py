"""What went wrong, as RFC 9457 problem documents: a status, one sentence, and never a traceback."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope

from headwise.errors import InputError, NotFound

MEDIA_TYPE = "application/problem+json"
CLIENT_GONE = 499  # nginx's number for a client that hung up; no status of the standard says it

log = logging.getLogger(__name__)


class Refusal(InputError):
    """A request refused with a status of its own.

    Args:
        status: 4xx.
        detail: one sentence: what was wrong and the remedy.
        headers: sent with the answer, for instance `Retry-After`.
        members: further members of the problem document, for programs to read.
    """

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.members = members


def overloaded(what: str) -> Refusal:
    """The 429 that asks a client to come back in a second."""
    return Refusal(429, f"{what}; try again in a second", headers={"Retry-After": "1"})


def problem(error: Exception, request: Scope) -> Response:
    """The problem document for anything raised while a request was answered.

    Input errors are told to the client as they are; what is not the client's fault is logged with its traceback and told
    as a 500 that carries nothing but the request id.

    Args:
        error: what was raised.
        request: its ASGI scope, with its id in the state.
    """
    match error:
        case Refusal():
            return _document(error.status, str(error), request, error.members, error.headers)
        case NotFound():
            return _document(404, str(error), request)
        case InputError():
            return _document(422, str(error), request)
        case HTTPException():
            return _document(error.status_code, str(error.detail), request, headers=error.headers)
        case ClientDisconnect():
            return _document(CLIENT_GONE, "the client hung up before its request was complete", request)
    request_id = request["state"]["request_id"]
    log.error("request %s failed", request_id, exc_info=error)
    detail = f"an error of ours, not of your request; the server's log has it under request id {request_id}"
    return _document(500, detail, request)


async def answer_error(request: Request, error: Exception) -> Response:
    """`problem` as an exception handler of Starlette."""
    if isinstance(error, HTTPException) and error.status_code in (404, 405):
        detail = f"{request.method} {request.url.path}: there is no such operation; /docs lists what there is"
        error = HTTPException(error.status_code, detail, error.headers)
    return problem(error, request.scope)


def _document(
    status: int,
    detail: str,
    request: Scope,
    members: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    title = "Client Closed Request" if status == CLIENT_GONE else HTTPStatus(status).phrase
    facts: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    facts["request_id"] = request["state"]["request_id"]
    # Where clients of the two protocols that others made look for it.
    if request["path"].startswith("/v2/"):
        facts["error"] = detail
    elif request["path"].startswith("/v1/audio/"):
        facts["error"] = {"message": detail, "type": "server_error" if status >= 500 else "invalid_request_error"}
    return Response(msgspec.json.encode(facts | dict(members or {})), status, headers, MEDIA_TYPE)
