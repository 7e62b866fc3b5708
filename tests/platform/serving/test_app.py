import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response

from headwise.errors import InputError, NotFound
from headwise.model_folder import ModelCard
from headwise.serving.app import create_app
from headwise.serving.batching import Batcher
from headwise.serving.bodies import json_response, read_json
from headwise.serving.problems import Refusal
from headwise.serving.service import Endpoint
from headwise.serving.telemetry import JsonLines

ERRORS: dict[str, Exception] = {
    "input": InputError("length is 5, at most 3"),
    "missing": NotFound("no such thing"),
    "refused": Refusal(409, "not now", headers={"x-why": "tide"}, tide=7),
    "ours": ZeroDivisionError("secret"),
}


def echo(words: list[str]) -> list[str]:
    return list(words)


@dataclass
class Echo:
    """Answers a JSON word with itself, or with the error that it names."""

    kind: str = "echo"
    name: str = "parrot"
    version: str | None = "3"
    path: str = "/v1/echo"
    max_requests: int = 13
    agreement = None
    inference = None
    sockets = ()
    card: ModelCard = field(
        default_factory=lambda: ModelCard("echo", "words", {"window": 5}, {"run": "r7"}, {"bad": float("nan")}, {})
    )
    batcher: Batcher[str, str] = field(default_factory=lambda: Batcher(echo, max_batch=2))

    @property
    def endpoints(self) -> list[Endpoint]:
        operation = {"summary": "Echo", "responses": {"200": {"description": "The word."}}}
        return [Endpoint(self.path, self._answer, operation, {"Word": {"type": "string"}}, 101, self.max_requests)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self.batcher.running():
            yield

    async def _answer(self, request: Request) -> Response:
        word = await read_json(request, msgspec.json.Decoder(str))
        if word in ERRORS:
            raise ERRORS[word]
        return json_response(await self.batcher.submit(word))


@pytest.fixture(name="client")
def client_fixture(talking_to: Callable[..., Any]) -> Iterator[Any]:
    with talking_to(create_app([Echo()])) as client:
        yield client


def test_a_request_that_takes_longer_than_the_deadline_is_given_up(talking_to: Callable[..., Any]) -> None:
    class Slow(Echo):
        async def _answer(self, request: Request) -> Response:
            await asyncio.sleep(3600)
            raise AssertionError

    with talking_to(create_app([Slow()], deadline=0.01)) as client:
        answer = problem_of(client.post("/v1/echo", json="hello"), 504)
        assert answer["detail"] == "no answer within 0.01 s, this server's deadline; try again later"


def problem_of(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    assert document["type"] == "about:blank"
    assert document["request_id"] == response.headers["x-request-id"]
    return dict(document)


def test_a_hot_route_answers(client: Any) -> None:
    response = client.post("/v1/echo", json="hello")
    assert (response.status_code, response.json()) == (200, "hello")


@pytest.mark.parametrize(
    ("word", "status", "detail"), [("input", 422, "length is 5"), ("missing", 404, "no such thing")]
)
def test_input_errors_are_told_as_they_are(client: Any, word: str, status: int, detail: str) -> None:
    assert problem_of(client.post("/v1/echo", json=word), status)["detail"].startswith(detail)


def test_a_refusal_carries_its_headers_and_members(client: Any) -> None:
    response = client.post("/v1/echo", json="refused")
    assert problem_of(response, 409)["tide"] == 7
    assert response.headers["x-why"] == "tide"


def test_our_own_errors_tell_the_client_nothing_but_an_id(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    response = client.post("/v1/echo", json="ours", headers={"x-request-id": "abc-1"})
    assert problem_of(response, 500)["request_id"] == "abc-1"
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    logged = next(record for record in caplog.records if record.exc_info)
    assert "abc-1" in logged.getMessage()
    assert "secret" in JsonLines().format(logged)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'"hell', "application/json", 400),
        (b'"\xff"', "application/json", 400),
        (b"", "application/json", 400),
        (b"7", "application/json", 422),
        (b'"a"', "text/plain", 415),
        (b'"' + b"a" * 101 + b'"', "application/json", 413),
    ],
)
def test_bodies_that_are_refused(client: Any, content: bytes, kind: str, status: int) -> None:
    problem_of(client.post("/v1/echo", content=content, headers={"content-type": kind}), status)


def test_a_body_without_an_announced_length_is_counted_as_it_comes(client: Any) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"a" * 47

    response = client.post("/v1/echo", content=chunks(), headers={"content-type": "application/json"})
    assert "longer than 101 bytes" in problem_of(response, 413)["detail"]


def test_more_requests_than_there_is_room_for_are_asked_to_come_back(talking_to: Callable[..., Any]) -> None:
    with talking_to(create_app([Echo(max_requests=5)])) as client:
        answers = client.together("/v1/echo", ["word"] * 7)
        refused = [answer for answer in answers if answer.status_code != 200]
        assert len(refused) == 2
        assert problem_of(refused[0], 429)["detail"].startswith("5 requests are being answered already")
        assert refused[0].headers["retry-after"] == "1"
        assert client.post("/v1/echo", json="word").status_code == 200  # their places are free again


def test_unknown_paths_and_methods_are_problems_too(client: Any) -> None:
    assert "/docs" in problem_of(client.get("/nowhere"), 404)["detail"]
    response = client.get("/v1/echo")
    problem_of(response, 405)
    assert response.headers["allow"] == "POST"


def test_health_and_models(client: Any) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    [model] = client.get("/v1/models").json()["data"]
    assert (model["id"], model["version"], model["trained_as"]) == ("parrot", "3", "words")
    assert model["metrics"] == {"bad": None}  # JSON has no NaN


def test_not_ready_outside_its_lifespan(talking_to: Callable[..., Any]) -> None:
    app = create_app([Echo()])
    with talking_to(app) as client:
        app.state.ready = False
        problem_of(client.get("/readyz"), 503)


def test_metrics_count_requests_batches_and_models(client: Any) -> None:
    client.together("/v1/echo", ["a"] * 5)
    client.get("/scanner/1")
    text = client.get("/metrics").text
    assert 'headwise_requests_total{route="/v1/echo",status="200"} 5.0' in text
    assert 'headwise_requests_total{route="other",status="404"} 1.0' in text
    assert "scanner" not in text
    assert 'headwise_batch_size_sum{model="parrot"} 5.0' in text
    assert 'headwise_batch_size_count{model="parrot"} 3.0' in text
    assert 'headwise_queue_depth{model="parrot"} 0.0' in text
    assert 'headwise_model_info{kind="echo",model="parrot",run="r7",trained_as="words",version="3"} 1.0' in text
    assert 'headwise_request_seconds_count{route="/v1/echo"} 5.0' in text


def test_every_request_is_one_line_of_json(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="headwise.requests"):
        response = client.post("/v1/echo", json="a")
    [record] = [record for record in caplog.records if record.name == "headwise.requests"]
    line = json.loads(JsonLines().format(record))
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/echo", 200)
    assert line["request_id"] == response.headers["x-request-id"]
    assert line["time"].endswith("Z")


@pytest.mark.parametrize("own", ["x" * 200, "two words", "a\tb"])
def test_a_request_id_that_is_not_plain_is_replaced(client: Any, own: str) -> None:
    assert client.get("/healthz", headers={"x-request-id": own}).headers["x-request-id"] != own


def test_openapi_holds_the_hot_route_its_schemas_and_its_problems(client: Any) -> None:
    document = client.get("/openapi.json").json()
    responses = document["paths"]["/v1/echo"]["post"]["responses"]
    assert set(responses) == {"200", "400", "401", "413", "415", "422", "429", "500", "504"}
    assert "Retry-After" in responses["429"]["headers"]
    assert {"Word", "Problem"} <= set(document["components"]["schemas"])
    assert {"/healthz", "/readyz", "/metrics", "/v1/models"} <= set(document["paths"])


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_ask_nobody_but_this_server(client: Any, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not any(mark in response.text for mark in ("https://", "http://", "@import", "src="))


def test_two_models_for_one_route_are_refused() -> None:
    with pytest.raises(InputError, match=r"parrot, jay answer /v1/echo; serve one of them on another port"):
        create_app([Echo(), Echo(name="jay")])
    with pytest.raises(InputError, match="no model to serve"):
        create_app([])
