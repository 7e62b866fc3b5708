"""The micro-batcher: whatever has queued up while the model was busy is answered together.

There is no waiting window. On a CPU a batch gains little (1.25 times for a SASRec of usual size), so holding a lone request back
would only make it late; under load a batch forms by itself while the one before it is computed.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from headwise.serving.problems import overloaded

Query = TypeVar("Query")
Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Query, Answer]):
    query: Query
    shape: Hashable
    answer: asyncio.Future[Answer]


class Batcher(Generic[Query, Answer]):
    """Batches for one model, computed on threads of its own, one at a time on each.

    Args:
        work: answers a batch, in order; runs outside the event loop.
        shape: queries of one shape may share a batch; the default puts all together.
        max_batch: the most queries in one batch.
        max_queue: the most queries that wait; further ones are refused with 429.
        threads: how many batches are computed at the same time.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Query]], Sequence[Answer]],
        *,
        shape: Callable[[Query], Hashable] = lambda _: None,
        max_batch: int = 32,
        max_queue: int = 512,
        threads: int = 1,
    ) -> None:
        self.observe: Callable[[int], None] = lambda size: None  # told the size of every batch, for the metrics
        self._work = work
        self._shape = shape
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._threads = threads
        self._queue: deque[_Waiting[Query, Answer]] = deque()
        self._arrived = asyncio.Event()
        self._open = False

    @property
    def depth(self) -> int:
        """How many queries wait."""
        return len(self._queue)

    async def submit(self, query: Query) -> Answer:
        """The answer to one query, whatever becomes of the others in its batch.

        Raises:
            Refusal: 429, the queue is full.
            Exception: what `work` raised for this query alone.
        """
        if not self._open:
            raise RuntimeError("submit() outside running()")
        if len(self._queue) >= self._max_queue:
            raise overloaded(f"{self._max_queue} requests are waiting for this model already")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(query, self._shape(query), answer)
        self._queue.append(waiting)
        self._arrived.set()
        return await answer

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answers queries inside the block; those still waiting at its end are answered before it closes."""
        self._arrived = asyncio.Event()  # an event belongs to the loop that first waits for it
        self._open = True
        with ThreadPoolExecutor(self._threads, thread_name_prefix="batch") as pool:
            workers = [asyncio.create_task(self._answer_batches(pool)) for _ in range(self._threads)]
            try:
                yield
            finally:
                self._open = False
                self._arrived.set()
                await asyncio.gather(*workers)

    async def _answer_batches(self, pool: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while self._queue or self._open:
            batch = self._take()
            if not batch:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            self.observe(len(batch))
            outcomes = await loop.run_in_executor(pool, self._attempt, [waiting.query for waiting in batch])
            for waiting, outcome in zip(batch, outcomes, strict=True):
                _deliver(waiting.answer, outcome)

    def _take(self) -> list[_Waiting[Query, Answer]]:
        # The oldest query sets the shape, so none can be overtaken for ever.
        batch: list[_Waiting[Query, Answer]] = []
        others: deque[_Waiting[Query, Answer]] = deque()
        while self._queue and len(batch) < self._max_batch:
            waiting = self._queue.popleft()
            if waiting.answer.done():  # its client has hung up
                continue
            if not batch or waiting.shape == batch[0].shape:
                batch.append(waiting)
            else:
                others.append(waiting)
        self._queue.extendleft(reversed(others))
        return batch

    def _attempt(self, queries: Sequence[Query]) -> Sequence[Answer | Exception]:
        try:
            answers = self._work(queries)
            if len(answers) != len(queries):
                raise RuntimeError(f"the model gave {len(answers)} answers to {len(queries)} queries")
            return answers
        except Exception as error:  # noqa: BLE001 - handed to the one who asked
            if len(queries) == 1:
                return [error]
            log.warning("a batch of %d failed (%s); each of its queries is tried alone", len(queries), error)
            return [outcome for query in queries for outcome in self._attempt([query])]


def _deliver(answer: asyncio.Future[Answer], outcome: Answer | Exception) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
