"""The OpenAPI document: FastAPI's own for the small routes, the services' fragments for the hot ones."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from headwise.serving.problems import MEDIA_TYPE
from headwise.serving.service import Endpoint

PROBLEM = {
    "title": "Problem",
    "description": "An RFC 9457 problem document. Some problems carry further members, for instance `unknown`.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "default": "about:blank"},
        "title": {"type": "string", "description": "the status in words"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what was wrong and the remedy, in one sentence"},
        "request_id": {"type": "string", "description": "also in the X-Request-ID header and in the server's log"},
    },
    "required": ["type", "title", "status", "detail", "request_id"],
}
WHEN = {
    400: "The body cannot be read.",
    401: "The server asks for an API key, and this is none of its keys.",
    404: "What the request names does not exist.",
    413: "The body, or the recording in it, is longer than the server accepts.",
    415: "The body is of a type that this route does not read.",
    422: "The body can be read, and something in it is wrong.",
    429: "The queue is full; `Retry-After` says when to come back.",
    500: "An error of the server; its log has it under the request id.",
    503: "Not ready yet, or no longer.",
    504: "No answer within the server's deadline.",
}
ANYWHERE = (400, 401, 413, 415, 422, 429, 500, 504)  # on every endpoint


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for problem documents of the given statuses."""
    return {str(status): _problem_response(status) for status in statuses}


def with_endpoints(document: dict[str, Any], endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """FastAPI's document with the endpoints' operations and schemas, and the problem schema, put in."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = PROBLEM
    for endpoint in endpoints:
        schemas.update(endpoint.schemas)
        document["paths"][endpoint.path] = {"post": _with_problems(endpoint.operation)}
    return document


def _with_problems(operation: Mapping[str, Any]) -> dict[str, Any]:
    problems = problem_responses(*ANYWHERE)
    return {**operation, "responses": problems | operation["responses"]}


def _problem_response(status: int) -> dict[str, Any]:
    description = WHEN[status]
    title = HTTPStatus(status).phrase
    example = {"type": "about:blank", "title": title, "status": status, "detail": description, "request_id": "9f1c..."}
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}}
    response: dict[str, Any] = {"description": description, "content": content}
    if status == 429:
        response["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return response
