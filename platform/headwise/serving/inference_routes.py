"""What clients of the Open Inference Protocol, version 2, ask before and around inference; `Inference` answers the rest."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headwise import __version__
from headwise.errors import NotFound
from headwise.serving.bodies import limited
from headwise.serving.changing import Slot
from headwise.serving.inference import Inference
from headwise.serving.openapi import problem_responses
from headwise.serving.problems import Refusal

TAGS: list[str | Enum] = ["tensors"]


def add_inference_routes(app: FastAPI, slots: Sequence[Slot]) -> None:
    """Adds the protocol's routes about the server and its models, and those that name a version.

    Args:
        app: the application, whose state says whether it is ready.
        slots: its models.
    """
    missing = problem_responses(404)

    @app.get("/v2", summary="About the server", tags=TAGS)
    async def server() -> dict[str, Any]:
        return {"name": "headwise", "version": __version__, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live", summary="Whether the process lives", tags=TAGS)
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", summary="Whether every model is loaded", tags=TAGS, responses=problem_responses(503))
    async def ready() -> dict[str, bool]:
        if not app.state.ready:
            raise Refusal(503, "the models are not ready")
        return {"ready": True}

    @app.get("/v2/models/{name}", summary="Inputs and outputs of a graph", tags=TAGS, responses=missing)
    @app.get("/v2/models/{name}/versions/{version}", include_in_schema=False)
    async def metadata(name: str, version: str = "") -> dict[str, Any]:
        return _found(slots, name, version)[1].metadata

    @app.get("/v2/models/{name}/ready", summary="Whether a model answers", tags=TAGS, responses=missing)
    @app.get("/v2/models/{name}/versions/{version}/ready", include_in_schema=False)
    async def model_ready(name: str, version: str = "") -> dict[str, Any]:
        _found(slots, name, version)
        return {"name": name, "ready": app.state.ready}

    async def infer(request: Request) -> Response:
        slot, inference = _found(slots, request.path_params["name"], request.path_params["version"])
        return await slot.answer(inference.path, limited(request, inference.endpoint.max_bytes))

    app.router.routes.append(Route("/v2/models/{name}/versions/{version}/infer", infer, methods=["POST"]))


def _found(slots: Sequence[Slot], name: str, version: str) -> tuple[Slot, Inference]:
    for slot in slots:
        service = slot.service
        if service.name == name and service.inference and version in ("", service.version):
            return slot, service.inference
    known = ", ".join(
        f"{slot.service.name} (version {slot.service.version})" if slot.service.version else slot.service.name
        for slot in slots
    )
    asked = f"{name}, version {version}," if version else name
    raise NotFound(f"no model {asked[:200]} is served here; there are: {known}")
