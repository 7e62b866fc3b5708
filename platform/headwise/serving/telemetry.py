"""What a running server tells: Prometheus metrics, one JSON line a request, and an id that ties the two to the answer."""

import logging
import re
import time
from collections.abc import Collection
from typing import Any
from uuid import uuid4

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headwise.serving.changing import Slot
from headwise.serving.problems import CLIENT_GONE, problem
from headwise.serving.service import Service

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SHARES = (0, 0.2, 0.4, 0.6, 0.8, 0.99, 1)
SIZES = (1, 2, 4, 8, 16, 32, 64)
ANOTHER_ROUTE = "other"  # one label for all unknown paths: a scanner must not be able to fill the metrics
SAFE_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)

log = logging.getLogger("headwise.requests")


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter("headwise_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "headwise_request_seconds", "From a request's headers to its answer.", ["route"], buckets=SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.sockets = Gauge(
            "headwise_connections_open", "Websockets that are open.", ["route"], registry=self.registry
        )
        self._batch = Histogram(
            "headwise_batch_size", "Queries that shared one run of the graph.", ["model"], buckets=SIZES,
            registry=self.registry,
        )  # fmt: skip
        self._depth = Gauge("headwise_queue_depth", "Queries that wait.", ["model"], registry=self.registry)
        self._models = Gauge(
            "headwise_model_info", "1 for every model served.", ["model", "kind", "version", "trained_as", "run"],
            registry=self.registry,
        )  # fmt: skip
        self._changes = Counter(
            "headwise_model_changes", "Versions that took the place of another.", ["model", "why"],
            registry=self.registry,
        )  # fmt: skip
        self._shadowed = Counter(
            "headwise_shadow_requests", "Requests that a shadow was asked.", ["model", "version", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._agreement = Histogram(
            "headwise_shadow_agreement", "How far a shadow's answers are those that were given: 0 nothing, 1 everything.",
            ["model", "version"], buckets=SHARES, registry=self.registry,
        )  # fmt: skip
        self._registry = Gauge(
            "headwise_registry_up", "Whether the registry of a model could be asked.", ["model"], registry=self.registry
        )
        self._refused = Gauge(
            "headwise_model_refused", "Versions that should be served and are not.", ["model"], registry=self.registry
        )

    def watch(self, slot: Slot) -> None:
        """Adds one model: its version, its batches, its queue, and whether its registry answers."""
        name = slot.service.name
        self._depth.labels(name).set_function(lambda: slot.service.batcher.depth)
        self._registry.labels(name).set_function(lambda: not slot.trouble)
        self._refused.labels(name).set_function(lambda: len(slot.refused))
        self._serve(slot.service)

    def change(self, before: Service, after: Service, why: str) -> None:
        """Records that one version took the place of another."""
        self._models.remove(*_labels(before))
        self._changes.labels(after.name, why).inc()
        self._serve(after)

    def of_shadow(self, service: Service) -> dict[str, Any]:
        """How a shadow's agreement is recorded: the arguments `observe` and `passed` of `Shadow`."""
        names = service.name, service.version or ""

        def observe(agreement: float | None) -> None:
            self._shadowed.labels(*names, "failed" if agreement is None else "answered").inc()
            if agreement is not None:
                self._agreement.labels(*names).observe(agreement)

        return {"observe": observe, "passed": self._shadowed.labels(*names, "passed over").inc}

    def _serve(self, service: Service) -> None:
        self._models.labels(*_labels(service)).set(1)
        service.batcher.observe = self._batch.labels(service.name).observe


class Telemetry:
    """ASGI middleware around everything else: gives each request an id, counts and logs it, and turns what nobody
    caught into a problem document.

    A client's own `X-Request-ID` is kept where it is short and plain.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Collection[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        if scope["type"] == "websocket":
            with self._metrics.sockets.labels(self._route(scope)).track_inprogress():
                await self._app(scope, receive, send)
            self._log(scope, time.perf_counter() - began)
            return
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            if status:  # half an answer is out already: the server can only cut the connection
                raise
            await problem(error, scope)(scope, receive, send_with_id)
        finally:
            self._record(scope, status or CLIENT_GONE, time.perf_counter() - began)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = self._route(scope)
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        self._log(scope, seconds, method=scope["method"], status=status)

    def _route(self, scope: Scope) -> str:
        return scope["path"] if scope["path"] in self._routes else ANOTHER_ROUTE

    def _log(self, scope: Scope, seconds: float, **more: str | int) -> None:
        facts = {**more, "path": scope["path"], "ms": round(seconds * 1000, 2)}
        facts["request_id"] = scope["state"]["request_id"]
        log.info("request" if scope["type"] == "http" else "connection", extra={"facts": facts})


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and a request's facts or a traceback where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def _labels(service: Service) -> tuple[str, str, str, str, str]:
    run = str(service.card.provenance.get("run", ""))
    return service.name, service.kind, service.version or "", service.card.name, run


def _request_id(scope: Scope) -> str:
    own = Headers(scope=scope).get("x-request-id", "")
    return own if SAFE_ID.fullmatch(own) else uuid4().hex
