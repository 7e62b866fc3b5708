"""The application: the services' routes, health, metrics, the list of models, and two pages for people.

FastAPI is the shell: it serves the small routes and writes most of the OpenAPI document. The routes that carry the load
are plain Starlette with msgspec: a request to them costs about half of what FastAPI with pydantic would take.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from headwise import __version__
from headwise.errors import HeadwiseError, InputError
from headwise.serving.bodies import json_response, limited
from headwise.serving.openapi import problem_responses, with_endpoints
from headwise.serving.problems import Refusal, answer_error, overloaded
from headwise.serving.service import Endpoint, Service
from headwise.serving.telemetry import Metrics, Telemetry

# The pages bring their own style and script and ask nobody but this server.
PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:; media-src blob:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
DESCRIPTION = "Next-item recommendations and speech recognition. Every error is an RFC 9457 problem document."


def create_app(services: Sequence[Service]) -> FastAPI:
    """The ASGI application that serves the given models.

    Raises:
        InputError: no service, or two that answer the same route.
    """
    endpoints = [endpoint for service in services for endpoint in service.endpoints]
    _check(services, endpoints)
    metrics = Metrics()
    for service in services:
        metrics.watch(service)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for service in services:
                await stack.enter_async_context(service.running())
            app.state.ready = True
            yield
            app.state.ready = False

    app = FastAPI(
        title="headwise", version=__version__, description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.ready = False
    for error in (HeadwiseError, HTTPException):
        app.add_exception_handler(error, answer_error)
    app.router.routes.extend(Route(each.path, _answering(each), methods=["POST"]) for each in endpoints)
    app.router.routes.append(Route("/", _page("index.html")))
    app.router.routes.append(Route("/docs", _page("docs.html")))
    _add_small_routes(app, services, metrics)
    document = with_endpoints(get_openapi(**_description(app)), endpoints)
    app.openapi = lambda: document  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    paths = [route.path for route in app.routes if isinstance(route, Route)]
    app.add_middleware(Telemetry, metrics=metrics, routes=paths)
    return app


def _check(services: Sequence[Service], endpoints: Sequence[Endpoint]) -> None:
    if not services:
        raise InputError("there is no model to serve; name at least one")
    paths = [endpoint.path for endpoint in endpoints]
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        names = ", ".join(service.name for service in services)
        raise InputError(f"two of the models {names} answer {twice[0]}; serve one of them on another port")


def _answering(endpoint: Endpoint) -> Any:
    inside = 0

    async def answer(request: Request) -> Response:
        nonlocal inside
        if inside >= endpoint.max_requests:
            raise overloaded(f"{endpoint.max_requests} requests are being answered already")
        inside += 1
        try:
            return await endpoint.handler(limited(request, endpoint.max_bytes))
        finally:
            inside -= 1

    return answer


def _page(name: str) -> Any:
    html = (files("headwise.serving") / "pages" / name).read_text(encoding="utf-8")
    headers = {"content-security-policy": PAGE_POLICY, "x-content-type-options": "nosniff"}

    async def page(request: Request) -> Response:
        return HTMLResponse(html, headers=headers)

    return page


def _add_small_routes(app: FastAPI, services: Sequence[Service], metrics: Metrics) -> None:
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
        return json_response({"object": "list", "data": [_model(service) for service in services]})

    @app.get("/metrics", summary="Metrics for Prometheus", tags=["operation"], response_class=PlainTextResponse)
    async def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _model(service: Service) -> dict[str, Any]:
    card = service.card
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
    }


def _description(app: FastAPI) -> dict[str, Any]:
    return {"title": app.title, "version": app.version, "description": app.description, "routes": app.routes}
