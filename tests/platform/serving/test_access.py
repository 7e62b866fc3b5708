import pytest
from starlette.requests import Request

from headwise.errors import InputError
from headwise.serving.access import Access

KEY, OTHER = "k" * 24, "another-key-of-30-characters-!"


def ask(talking_to, access, path="/v1/echo", method="POST", **headers):
    """Through the gate to an application that answers whom it let in."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from headwise.serving.telemetry import Metrics, Telemetry

    async def inside(request: Request):
        return PlainTextResponse("inside")

    app = Starlette(routes=[Route(each, inside, methods=["GET", "POST"]) for each in ("/v1/echo", "/healthz", "/")])
    app.add_middleware(access.around)
    app.add_middleware(Telemetry, metrics=Metrics(), routes=["/v1/echo"])
    with talking_to(app) as client:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.request(method, path, headers=sent)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {OTHER}"},
        {"x_api_key": KEY},
    ],
)
def test_a_key_opens(talking_to, headers):
    access = Access.of(environment={"HEADWISE_API_KEYS": f" {KEY}, {OTHER},"})
    assert ask(talking_to, access, **headers).text == "inside"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong-key-of-24-characters"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"x_api_key": KEY[:-1]},
        {"authorization": "Bearer "},
    ],
)
def test_nothing_else_does(talking_to, headers):
    answer = ask(talking_to, Access.of(environment={"HEADWISE_API_KEYS": KEY}), **headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "this server asks for an API key; send `Authorization: Bearer KEY`"
    assert KEY not in answer.text


def test_who_watches_the_process_and_the_pages_need_none(talking_to):
    access = Access.of(environment={"HEADWISE_API_KEYS": KEY})
    for path in ("/healthz", "/"):
        assert ask(talking_to, access, path, "GET").text == "inside"


def test_without_keys_everybody_may_ask(talking_to):
    assert ask(talking_to, Access.of(environment={})).text == "inside"


def test_keys_from_a_file(tmp_path, talking_to):
    (tmp_path / "keys").write_text(f"# the shop\n{KEY}\n\n{OTHER}\n")
    access = Access.of(key_file=tmp_path / "keys", environment={})
    assert len(access.keys) == 2
    assert ask(talking_to, access, x_api_key=OTHER).text == "inside"
    assert KEY not in repr(access)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# nobody\n", "keys: holds no API key"),
        ("short\n", "an API key of 5 characters: 16 of ASCII"),
        ("two words in one key, long\n", "without spaces"),
        ("ключ-ключ-ключ-ключ\n", "an API key of 19 characters: 16 of ASCII"),
        (None, "keys: cannot be read"),
    ],
)
def test_what_is_no_key_file(tmp_path, content, message):
    if content is not None:
        (tmp_path / "keys").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        Access.of(key_file=tmp_path / "keys", environment={})


def test_a_page_of_a_known_origin_may_ask(talking_to):
    access = Access.of(origins=["https://shop.example"], environment={"HEADWISE_API_KEYS": KEY})
    answer = ask(talking_to, access, x_api_key=KEY, origin="https://shop.example")
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    # A browser asks first, without the key.
    preflight = {"origin": "https://shop.example", "access_control_request_method": "POST"}
    assert ask(talking_to, access, method="OPTIONS", **preflight).status_code == 200
    stranger = ask(talking_to, access, method="OPTIONS", **preflight | {"origin": "https://other.example"})
    assert stranger.status_code == 400
    assert "access-control-allow-origin" not in stranger.headers


@pytest.mark.parametrize("origin", ["shop.example", "https://shop.example/", "https://shop.example/path", "null"])
def test_what_is_no_origin(origin):
    with pytest.raises(InputError, match=f"--cors {origin}: an origin is scheme, host and port"):
        Access.of(origins=[origin], environment={})


def converse(access, **headers):
    """Through the gate to a websocket that says one word."""
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.testclient import TestClient, WebSocketDenialResponse

    from headwise.serving.telemetry import Metrics, Telemetry

    async def inside(socket):
        await socket.accept()
        await socket.send_text("inside")
        await socket.close()

    app = Starlette(routes=[WebSocketRoute("/v1/talk", inside)])
    app.add_middleware(access.around)
    app.add_middleware(Telemetry, metrics=Metrics(), routes=["/v1/talk"])
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with TestClient(app).websocket_connect("/v1/talk", headers=sent) as socket:
            return socket.receive_text()
    except WebSocketDenialResponse as refused:
        return refused.status_code, refused.json()["detail"]


def test_a_websocket_needs_a_key_too():
    access = Access.of(environment={"HEADWISE_API_KEYS": KEY})
    assert converse(access, authorization=f"Bearer {KEY}") == "inside"
    assert converse(access) == (401, "this server asks for an API key; send `Authorization: Bearer KEY`")


@pytest.mark.parametrize(
    ("origin", "origins", "inside"),
    [
        (None, [], True),
        ("http://testserver", [], True),
        ("https://evil.example", [], False),
        ("https://evil.example", ["https://shop.example"], False),
        ("https://shop.example", ["https://shop.example"], True),
        ("https://any.example", ["*"], True),
    ],
)
def test_a_websocket_of_a_page_of_an_unknown_origin_is_refused(origin, origins, inside):
    headers = {} if origin is None else {"origin": origin}
    answer = converse(Access.of(origins=origins, environment={}), **headers)
    assert answer == "inside" if inside else answer[0] == 403
