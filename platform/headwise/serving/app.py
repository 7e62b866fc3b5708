"""The application: the services' routes, health, metrics, the list of models, and two pages for people.

FastAPI is the shell: it serves the small routes and writes most of the OpenAPI document. The routes that carry the load
are plain Starlette with msgspec: a request to them costs about half of what FastAPI with pydantic would take.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from headwise import __version__
from headwise.errors import HeadwiseError, InputError
from headwise.serving.access import Access
from headwise.serving.bodies import json_response, limited
from headwise.serving.changing import EVERY, PROBATION, Slot, Source
from headwise.serving.inference_routes import add_inference_routes
from headwise.serving.openapi import problem_responses, with_endpoints
from headwise.serving.problems import Refusal, answer_error, overloaded, problem
from headwise.serving.service import Endpoint, Service, Socket
from headwise.serving.shadow import Shadow
from headwise.serving.telemetry import Metrics, Telemetry

# The pages bring their own style and script and ask nobody but this server.
PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:; media-src blob:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
DEADLINE = 60.0  # seconds
DESCRIPTION = "Next-item recommendations and speech recognition. Every error is an RFC 9457 problem document."


def create_app(
    services: Sequence[Service],
    sources: Mapping[str, Source] | None = None,
    *,
    shadows: Sequence[Service] = (),
    access: Access = Access(),  # noqa: B008 - frozen
    deadline: float = DEADLINE,
    every: float = EVERY,
    probation: float = PROBATION,
) -> FastAPI:
    """The ASGI application that serves the given models.

    Args:
        services: the models to begin with.
        sources: by a model's name, where its later versions come from; the others stay as they are.
        shadows: candidates, one of a kind at most, that are asked what the model of their kind is asked.
        access: who may ask.
        deadline: seconds after which a request is given up with 504.
        every: seconds between two looks at a source.
        probation: seconds for which the version before stays warm.

    Raises:
        InputError: no service, two that answer the same route, or a shadow of none.
    """
    _check(services)
    metrics = Metrics()
    sources = sources or {}
    beside = {shadow.kind: Shadow(shadow, **metrics.of_shadow(shadow)) for shadow in shadows}
    slots = [
        Slot(
            service,
            sources.get(service.name),
            shadow=beside.pop(service.kind, None),
            changed=metrics.change,
            every=every,
            probation=probation,
        )
        for service in services
    ]
    if beside:
        raise InputError(f"--shadow: no {next(iter(beside))} is served that it could be compared with")
    for slot in slots:
        metrics.watch(slot)
    routed = {endpoint.path: (slot, endpoint) for slot in slots for endpoint in slot.endpoints}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for slot in slots:
                await stack.enter_async_context(slot.running())
            app.state.ready = True
            yield
            app.state.ready = False

    app = FastAPI(
        title="headwise", version=__version__, description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.ready, app.state.slots = False, slots
    for error in (HeadwiseError, HTTPException):
        app.add_exception_handler(error, answer_error)
    app.router.routes.extend(
        Route(path, _answering(*each, deadline), methods=["POST"]) for path, each in routed.items()
    )
    app.router.routes.extend(
        WebSocketRoute(socket.path, _conversing(slot, socket)) for slot in slots for socket in slot.sockets
    )
    app.router.routes.append(Route("/", _page("index.html")))
    app.router.routes.append(Route("/docs", _page("docs.html")))
    _add_small_routes(app, slots, metrics)
    add_inference_routes(app, slots)

    def document() -> dict[str, Any]:
        endpoints = [endpoint for slot in slots for endpoint in slot.endpoints]
        return with_endpoints(get_openapi(**_description(app)), endpoints)

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    paths = [route.path for route in app.routes if isinstance(route, Route | WebSocketRoute)]
    app.add_middleware(access.around)
    app.add_middleware(Telemetry, metrics=metrics, routes=paths)
    return app


def _check(services: Sequence[Service]) -> None:
    if not services:
        raise InputError("there is no model to serve; name at least one")
    paths = [endpoint.path for service in services for endpoint in service.endpoints]
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        names = ", ".join(service.name for service in services)
        raise InputError(f"two of the models {names} answer {twice[0]}; serve one of them on another port")


def _answering(slot: Slot, endpoint: Endpoint, deadline: float) -> Any:
    inside = 0

    async def answer(request: Request) -> Response:
        nonlocal inside
        if inside >= endpoint.max_requests:
            raise overloaded(f"{endpoint.max_requests} requests are being answered already")
        inside += 1
        try:
            async with asyncio.timeout(deadline):
                return await slot.answer(endpoint.path, limited(request, endpoint.max_bytes))
        except TimeoutError as error:
            raise Refusal(504, f"no answer within {deadline:g} s, this server's deadline; try again later") from error
        finally:
            inside -= 1

    return answer


def _conversing(slot: Slot, socket: Socket) -> Any:
    inside = 0

    async def converse(connection: WebSocket) -> None:
        nonlocal inside
        if inside >= socket.max_open:
            refusal = overloaded(f"{socket.max_open} connections are open already")
            await connection.send_denial_response(problem(refusal, connection.scope))
            return
        inside += 1
        try:
            await slot.converse(socket.path, connection)
        finally:
            inside -= 1

    return converse


def _page(name: str) -> Any:
    html = (files("headwise.serving") / "pages" / name).read_text(encoding="utf-8")
    headers = {"content-security-policy": PAGE_POLICY, "x-content-type-options": "nosniff"}

    async def page(request: Request) -> Response:
        return HTMLResponse(html, headers=headers)

    return page


def _add_small_routes(app: FastAPI, slots: Sequence[Slot], metrics: Metrics) -> None:
    @app.get("/healthz", summary="Whether the process lives", tags=["operation"])
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get(
        "/readyz",
        summary="Whether every model is loaded and warm",
        tags=["operation"],
        responses=problem_responses(503),
    )
    async def readyz() -> dict[str, str]:
        if not app.state.ready:
            raise Refusal(503, "the models are not ready")
        return {"status": "ready"}

    @app.get("/v1/models", summary="The models served", tags=["operation"])
    async def models() -> Response:
        return json_response({"object": "list", "data": [_model(slot) for slot in slots]})

    @app.get("/metrics", summary="Metrics for Prometheus", tags=["operation"], response_class=PlainTextResponse)
    async def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _model(slot: Slot) -> dict[str, Any]:
    service, card = slot.service, slot.service.card
    return {
        "id": service.name,
        "object": "model",
        "owned_by": "headwise",
        "kind": service.kind,
        "version": service.version,
        "trained_as": card.name,
        "routes": [endpoint.path for endpoint in service.endpoints],
        "settings": dict(card.settings),
        "metrics": dict(card.metrics),
        "provenance": dict(card.provenance),
        **slot.state,
        **({"shadow": slot.shadow.service.version or slot.shadow.service.card.name} if slot.shadow else {}),
    }


def _description(app: FastAPI) -> dict[str, Any]:
    return {"title": app.title, "version": app.version, "description": app.description, "routes": app.routes}
