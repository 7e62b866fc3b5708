import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise.serving.batching import Batcher
from headwise.serving.problems import Refusal


def doubled(numbers: Sequence[int]) -> list[int]:
    return [2 * number for number in numbers]


def ask(batcher: Batcher[Any, Any], questions: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def inside() -> Any:
        async with batcher.running():
            return await questions()

    return asyncio.run(inside())


def all_of(batcher: Batcher[Any, Any], queries: Sequence[Any]) -> list[Any]:
    return ask(batcher, lambda: asyncio.gather(*map(batcher.submit, queries), return_exceptions=True))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(), max_size=37), st.integers(1, 11), st.integers(1, 3))
def test_everyone_gets_their_own_answer_whatever_the_batches(queries: list[int], most: int, threads: int) -> None:
    sizes: list[int] = []
    batcher = Batcher(doubled, shape=lambda query: query % 3, max_batch=most, threads=threads)
    batcher.observe = sizes.append
    assert all_of(batcher, queries) == doubled(queries)
    assert sum(sizes) == len(queries)
    assert all(1 <= size <= most for size in sizes)


def test_only_one_shape_shares_a_batch() -> None:
    batches: list[Sequence[str]] = []

    def work(words: Sequence[str]) -> Sequence[str]:
        batches.append(list(words))
        return words

    all_of(Batcher(work, shape=len), ["a", "bb", "c", "dd", "e"])
    assert batches == [["a", "c", "e"], ["bb", "dd"]]


def test_one_bad_query_does_not_fail_the_others() -> None:
    def work(numbers: Sequence[int]) -> list[float]:
        return [1 / number for number in numbers]

    first, bad, last = all_of(Batcher(work), [2, 0, 4])
    assert (first, last) == (0.5, 0.25)
    assert isinstance(bad, ZeroDivisionError)


def test_a_batch_that_loses_an_answer_is_an_error_for_nobody_but_its_loser() -> None:
    def work(numbers: Sequence[int]) -> list[int]:
        return [number for number in numbers if number != 3]

    assert [type(answer) for answer in all_of(Batcher(work), [2, 3, 5])] == [int, RuntimeError, int]


def test_what_queued_up_while_the_model_was_busy_is_one_batch() -> None:
    sizes: list[int] = []
    free = threading.Event()

    def work(numbers: Sequence[int]) -> Sequence[int]:
        free.wait(5)
        return numbers

    batcher = Batcher(work, max_batch=7)
    batcher.observe = sizes.append

    async def questions() -> None:
        lone = asyncio.create_task(batcher.submit(0))
        await asyncio.sleep(0.01)  # it is being computed now
        others = [asyncio.create_task(batcher.submit(number)) for number in range(11)]
        await asyncio.sleep(0)
        free.set()
        await asyncio.gather(lone, *others)

    ask(batcher, questions)
    assert sizes == [1, 7, 4]


def test_a_full_queue_refuses_with_429() -> None:
    answers = all_of(Batcher(doubled, max_queue=5), range(7))
    assert answers[:5] == [0, 2, 4, 6, 8]
    for refused in answers[5:]:
        assert isinstance(refused, Refusal)
        assert refused.status == 429
        assert refused.headers == {"Retry-After": "1"}
        assert "5 requests are waiting" in str(refused)


def test_a_query_whose_client_has_gone_is_not_computed() -> None:
    seen: list[int] = []

    def work(numbers: Sequence[int]) -> Sequence[int]:
        seen.extend(numbers)
        return numbers

    batcher = Batcher(work)

    async def questions() -> None:
        gone = asyncio.create_task(batcher.submit(3))
        kept = asyncio.create_task(batcher.submit(5))
        asyncio.get_running_loop().call_soon(gone.cancel)
        await asyncio.sleep(0)
        gone.cancel()
        await kept

    ask(batcher, questions)
    assert seen in ([5], [3, 5])  # taken before it was cancelled, or never


def test_queries_under_way_are_answered_before_it_closes() -> None:
    batcher = Batcher(doubled, max_batch=1)

    async def questions() -> list[asyncio.Task[int]]:
        tasks = [asyncio.create_task(batcher.submit(number)) for number in range(5)]
        await asyncio.sleep(0)
        return tasks

    async def inside() -> list[int]:
        async with batcher.running():
            tasks = await questions()
        return [task.result() for task in tasks if task.done() or await asyncio.sleep(0) is None]

    assert asyncio.run(inside()) == [0, 2, 4, 6, 8]
    with pytest.raises(RuntimeError, match="outside running"):
        asyncio.run(batcher.submit(1))
