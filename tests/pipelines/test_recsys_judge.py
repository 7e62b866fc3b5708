"""One scorer on two queries, by hand: what of its lists is judged, and on which queries."""

import numpy as np
import pytest

from headwise.errors import InputError
from headwise_pipelines.recsys.judge import Judge
from headwise_recsys.evaluation.answers import Answers
from headwise_recsys.interactions import Interactions
from headwise_recsys.splits import Queries, Split

ITEMS = 17


@pytest.fixture
def judge() -> Judge:
    return judging([1, 2, 3], [2, 4, 5, 2])


def judging(*rows: list[int]) -> Judge:
    """Every user's last event is asked for, and all before it are trained on."""
    data = Interactions(
        items=np.array([item for row in rows for item in row], np.int32),
        times=None,
        offsets=np.cumsum([0, *map(len, rows)]),
        user_ids=list(range(len(rows))),
        item_ids=list(range(ITEMS)),
        titles=None,
        name="made",
        fingerprint="",
        source="made.csv",
    )
    last = data.offsets[1:] - 1
    queries = Queries(data.offsets[:-1], last, last)
    return Judge(data, Split("leave-one-out", last, last, queries[:0], queries), sampled=5)


def falling(data: Interactions, queries: Queries) -> np.ndarray:
    """The first items of the catalogue."""
    return np.broadcast_to(-np.arange(ITEMS + 1, dtype=np.float32), (len(queries), ITEMS + 1))


def test_a_scorer_by_hand(judge) -> None:
    found = judge.baseline("falling", falling)
    # The first list is 3, 4, ... and its target first; the second target was seen and cannot be given.
    assert found.metrics["hr_1"] == found.metrics["hr_10"] == found.metrics["mrr_20"] == 0.5
    assert judge.repeats == 0.5
    assert found.curve == [0.5] * ITEMS
    # Of the first ten: 3 to 12, and 1, 3, 6 to 13.
    assert found.beyond["coverage"] == pytest.approx(12 / ITEMS)
    # The first list holds 4 and 5, the second 1, each chosen once in training.
    assert found.beyond["popularity"] == pytest.approx((2 / 10 + 1 / 10) / 2)
    assert found.beyond["lift"] == pytest.approx(0.15 / (((1 + 2) / 2 + (2 + 1 + 1) / 3) / 2))
    assert {name: (part.queries, part.hr_10) for name, part in found.slices["popularity of the target"].items()} == {
        "head": (1, 0),
        "new": (1, 1),
    }
    assert {name: part.queries for name, part in found.slices["items of history"].items()} == {"2": 1, "3": 1}
    assert found.sampled.keys() == {"sampled_5_hr_10", "sampled_5_ndcg_10"}
    assert (len(found.shares), found.shares[0], found.shares[-1]) == (101, 0, 1)


class Following:
    """A service that gives the item after the last one alone."""

    window = 7

    def answers(self, data: Interactions, queries: Queries, *, depth: int) -> Answers:
        given = np.zeros((len(queries), depth), np.int32)
        given[:, 0] = data.items[queries.stops - 1] + 1
        places = np.where(given[:, 0] == data.items[queries.targets], 1, np.inf)
        return Answers(given, places, places)

    def sampled_ranks(self, data: Interactions, queries: Queries, drawn: np.ndarray) -> np.ndarray:
        return np.ones(len(queries))


def test_what_order_is_worth_to_a_service_that_looks_at_the_last_item_alone() -> None:
    found = judging(*([1, 3, 5, 7, 9, 10] for _ in range(41))).model("following", Following())
    assert found.metrics["ndcg_10"] == 1
    assert found.shuffled["all but the last"]["lost"] == 0
    assert found.shuffled["all but the last"]["p"] == 1
    assert found.shuffled["all"]["ndcg_10"] == pytest.approx(1 / 5, abs=0.15)  # of five items any may be the last
    assert found.shuffled["all"]["p"] < 0.001


class Repeating:
    """A service that gives item 2, which everybody has seen."""

    window = 3

    def answers(self, data: Interactions, queries: Queries, *, depth: int) -> Answers:
        places = np.full(len(queries), np.inf)
        return Answers(np.full((len(queries), depth), 2, np.int32), places, places)


def test_a_service_that_gives_what_was_seen_is_refused(judge) -> None:
    with pytest.raises(InputError, match="model: 2 of 2 lists hold an item of their own history"):
        judge.model("model", Repeating())
