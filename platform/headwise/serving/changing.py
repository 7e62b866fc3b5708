"""A model that changes while requests are answered.

The next version is loaded, checked and warmed up beside the present one and takes its place between two requests: each request
is answered by one version from its beginning to its end. For a minute the version before stays warm. A request that the new
one fails on is asked of that one, too: where it can answer, the new one is at fault and the old one serves again; where both
fail, it is the request.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from typing import Any, Protocol

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message
from starlette.websockets import WebSocket

from headwise.errors import HeadwiseError, NotFound
from headwise.serving.mlflow_server import Unreachable
from headwise.serving.problems import problem
from headwise.serving.service import Endpoint, Service, Socket
from headwise.serving.shadow import Shadow

EVERY = 2.0  # seconds between two looks at the registry
PROBATION = 60.0  # seconds for which the version before stays warm
EXPECTED = (HeadwiseError, HTTPException, ClientDisconnect)  # raised for what is the client's affair

log = logging.getLogger(__name__)


class Source(Protocol):
    """Where the versions of a model come from. Both calls may block; they run outside the event loop."""

    def version(self) -> str:
        """The version that should serve now.

        Raises:
            HeadwiseError: that cannot be known at the moment.
        """

    def load(self, version: str) -> Service:
        """A version, ready to be started.

        Raises:
            Unreachable: it cannot be fetched at the moment.
            HeadwiseError: it is damaged, or does not answer as it did when it was exported.
        """


class Slot:
    """The place of one model in a server: requests go to the version that is in it.

    Args:
        service: the version to begin with.
        source: where others come from; without it this one stays.
        shadow: a candidate that is asked the same, unseen.
        changed: told the version that left and the one that came, and why: `served`, `taken back`.
        every: seconds between two looks at the source.
        probation: seconds for which the version before stays warm.
    """

    def __init__(
        self,
        service: Service,
        source: Source | None = None,
        *,
        shadow: Shadow | None = None,
        changed: Callable[[Service, Service, str], None] = lambda *_: None,
        every: float = EVERY,
        probation: float = PROBATION,
    ) -> None:
        self.refused: dict[str, str] = {}  # a version that is not served although it should be, and why
        self.trouble = ""  # why the source cannot be asked; empty while it can
        self.shadow = shadow
        self._source, self._changed = source, changed
        self._every, self._probation = every, probation
        self._live = _Live(service)
        self._before: _Live | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def service(self) -> Service:
        """The version that answers now."""
        return self._live.service

    @property
    def endpoints(self) -> list[Endpoint]:
        """The routes that it answers."""
        return list(self._live.endpoints.values())

    @property
    def sockets(self) -> list[Socket]:
        """The websocket routes that it answers."""
        return list(self._live.sockets.values())

    @property
    def state(self) -> dict[str, Any]:
        """What is not as it should be, for people: refused versions and a source that cannot be asked."""
        return {"refused": dict(self.refused), "trouble": self.trouble}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answers requests inside the block; at its end those under way are answered first."""
        await self._live.start()
        if self._source is not None:
            self._spawn(self._watch(self._source))
        try:
            async with self.shadow.running() if self.shadow else nullcontext():
                yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for live in filter(None, (self._live, self._before)):
                await live.stop()

    async def answer(self, path: str, request: Request) -> Response:
        """What the present version answers; the one before it where the present one fails and that does not."""
        if self.shadow is None:
            return await self._answer(path, request)
        asked = _Repeatable(request)
        answer = await self._answer(path, asked.request())
        self.shadow.offer(path, asked.request(), answer)
        return answer

    async def converse(self, path: str, socket: WebSocket) -> None:
        """Holds a connection; the version that it began with is its version to the end."""
        await self._live.converse(path, socket)

    async def _answer(self, path: str, request: Request) -> Response:
        live, before = self._live, self._before
        if before is None:
            return await live.answer(path, request)
        asked = _Repeatable(request)
        try:
            return await live.answer(path, asked.request())
        except EXPECTED:
            raise
        except Exception as error:
            if not before.open:
                raise
            answer = await before.answer(path, asked.request())
            self._take_back(live, before, f"failed on a request ({type(error).__name__}: {error})")
            return answer

    async def look(self) -> None:
        """Asks the source which version should serve, and changes to it if that is another one."""
        assert self._source is not None
        try:
            wanted = await asyncio.to_thread(self._source.version)
        except HeadwiseError as error:
            self._tell(error)
            return
        if wanted in self.refused:
            self.trouble = ""
            return
        self.refused = {}  # the registry has changed its mind: what it then names is tried, even if it was refused before
        if wanted == self.service.version:
            self.trouble = ""
            return
        try:
            fresh = _Live(await asyncio.to_thread(self._source.load, wanted))
            await fresh.start()
        except Unreachable as error:  # no fault of the version: it is tried again
            self._tell(error)
            return
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the present one goes on
            self._refuse(wanted, str(error))
        else:
            self._put(fresh)
        self.trouble = ""

    def _tell(self, error: HeadwiseError) -> None:
        if not self.trouble:
            log.warning("%s: version %s goes on serving: %s", self.service.name, self.service.version, error)
        self.trouble = str(error)

    async def _watch(self, source: Source) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                await self.look()
            except Exception:
                log.exception("%s: looking for another version failed; it is tried again", self.service.name)

    def _put(self, fresh: "_Live") -> None:
        old, retired = self._live, self._before
        self._live, self._before = fresh, old
        if retired is not None:
            self._spawn(retired.stop())
        self._spawn(self._end_probation(old))
        log.info("%s: version %s serves, after %s", fresh.service.name, fresh.service.version, old.service.version)
        self._changed(old.service, fresh.service, "served")

    async def _end_probation(self, old: "_Live") -> None:
        await asyncio.sleep(self._probation)
        if self._before is old:
            self._before = None
            await old.stop()

    def _take_back(self, live: "_Live", before: "_Live", reason: str) -> None:
        if (self._live, self._before) != (live, before):  # another request has seen to it
            return
        self._live, self._before = before, None
        self._refuse(str(live.service.version), reason)
        self._spawn(live.stop())
        self._changed(live.service, before.service, "taken back")

    def _refuse(self, version: str, reason: str) -> None:
        self.refused = {version: reason}
        log.error("%s: version %s is not served: %s", self.service.name, version, reason)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Live:
    """One version while it answers."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._inference = service.inference
        raw = [self._inference.endpoint] if self._inference else []
        self.endpoints = {endpoint.path: endpoint for endpoint in [*service.endpoints, *raw]}
        self.sockets = {socket.path: socket for socket in service.sockets}
        self.open = False
        self._stack = AsyncExitStack()
        self._inside = 0
        self._left = asyncio.Event()

    async def start(self) -> None:
        await self._stack.enter_async_context(self.service.running())
        if self._inference:
            await self._stack.enter_async_context(self._inference.running())
        self.open = True

    async def stop(self) -> None:
        """Returns when the last request has been answered and its threads have ended."""
        while self._inside:
            self._left.clear()
            await self._left.wait()
        self.open = False
        await self._stack.aclose()

    async def answer(self, path: str, request: Request) -> Response:
        with self._entered():
            return await self.endpoints[path].handler(request)

    async def converse(self, path: str, socket: WebSocket) -> None:
        with self._entered():
            if path in self.sockets:
                await self.sockets[path].handler(socket)
            else:
                refusal = NotFound(f"version {self.service.version} of {self.service.name} has no {path}")
                await socket.send_denial_response(problem(refusal, socket.scope))

    @contextmanager
    def _entered(self) -> Iterator[None]:
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._left.set()


class _Repeatable:
    """A request that can be read again by another version."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._read: list[Message] = []

    def request(self) -> Request:
        """The request from its beginning."""
        read = iter(list(self._read))

        async def receive() -> Message:
            with suppress(StopIteration):
                return next(read)
            message = await self._request.receive()
            self._read.append(message)
            return message

        return Request(self._request.scope, receive)
