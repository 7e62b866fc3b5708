"""A candidate beside the champion: asked what clients ask, waited for and seen by nobody, and told how far both agree."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from headwise.serving.service import Service

MAX_QUEUE = 64  # questions that wait; where the candidate is slower than clients ask, some are passed over

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Question:
    path: str
    request: Request
    answer: bytes
    request_id: str


class Shadow:
    """A service that is asked what another has answered.

    Args:
        service: the candidate.
        observe: told the agreement of each answer, from 0 to 1; None where the candidate failed.
        passed: told of a question that was passed over.
    """

    def __init__(
        self,
        service: Service,
        *,
        observe: Callable[[float | None], None] = lambda _: None,
        passed: Callable[[], None] = lambda: None,
    ) -> None:
        self.service = service
        self._observe, self._passed = observe, passed
        self._handlers = {endpoint.path: endpoint.handler for endpoint in service.endpoints}
        self._questions: asyncio.Queue[_Question] = asyncio.Queue(MAX_QUEUE)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Asks the candidate inside the block."""
        self._questions = asyncio.Queue(MAX_QUEUE)  # of this loop
        async with self.service.running():
            worker = asyncio.create_task(self._ask_all())
            try:
                yield
            finally:
                worker.cancel()
                await asyncio.gather(worker, return_exceptions=True)

    def offer(self, path: str, request: Request, answer: Response) -> None:
        """Asks the candidate later what has just been answered, unless too much waits already or it has no such route."""
        if path not in self._handlers:
            return
        try:
            question = _Question(path, request, bytes(answer.body), request.state.request_id)
            self._questions.put_nowait(question)
        except asyncio.QueueFull:
            self._passed()

    async def _ask_all(self) -> None:
        while True:
            question = await self._questions.get()
            try:
                other = await self._handlers[question.path](question.request)
                agreement = self.service.agreement(question.answer, bytes(other.body))
            except Exception as error:  # noqa: BLE001 - a candidate may fail in any way; that is what this is for
                log.warning("%s: the shadow failed on request %s: %r", self.service.name, question.request_id, error)
                self._observe(None)
            else:
                self._observe(agreement)
