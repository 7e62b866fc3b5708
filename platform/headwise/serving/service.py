"""What a product brings to be served. The products implement `Service`; the server knows nothing else of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from headwise.model_folder import ModelCard
from headwise.serving.batching import Batcher

if TYPE_CHECKING:
    from headwise.serving.inference import Inference


@dataclass(frozen=True)
class Endpoint:
    """One POST route: what answers it, and what OpenAPI says of it."""

    path: str
    handler: Callable[[Request], Awaitable[Response]]
    operation: Mapping[str, Any]  # an OpenAPI operation object; the server adds the error responses
    schemas: Mapping[str, Any]  # for #/components/schemas
    max_bytes: int  # of a request's body; more is refused with 413
    max_requests: int  # being answered at the same time; more are refused with 429


@dataclass(frozen=True)
class Socket:
    """One websocket route."""

    path: str
    handler: Callable[[WebSocket], Awaitable[None]]  # holds one connection from before it is accepted to its end
    max_open: int  # connections at the same time; more are refused with 429


class Service(Protocol):
    """A loaded model that answers requests."""

    @property
    def kind(self) -> str:
        """The product: "recommender" or "recogniser"."""

    @property
    def name(self) -> str:
        """What clients call the model."""

    @property
    def version(self) -> str | None:
        """Its version in the registry, None for a plain folder."""

    @property
    def card(self) -> ModelCard:
        """What `model.json` says."""

    @property
    def batcher(self) -> Batcher[Any, Any]:
        """The queue in front of the graph, for the metrics."""

    @property
    def inference(self) -> "Inference | None":
        """Its graph, for clients that speak the Open Inference Protocol; None where it has none to show."""

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """The routes that it answers."""

    @property
    def sockets(self) -> Sequence[Socket]:
        """The websocket routes that it answers."""

    def agreement(self, first: bytes, second: bytes) -> float:
        """How far two answers of a route, as bodies, tell a client the same: from 0, nothing, to 1, everything."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Warms the graph up, then answers requests inside the block."""
