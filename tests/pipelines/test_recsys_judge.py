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
    rows = [[1, 2, 3], [2, 4, 5, 2]]
    data = Interactions(
        items=np.array([item for row in rows for item in row], np.int32),
        times=None,
        offsets=np.array([0, 3, 7]),
        user_ids=[0, 1],
        item_ids=list(range(ITEMS)),
        titles=None,
        name="made",
        fingerprint="",
        source="made.csv",
    )
    last = np.array([2, 6])
    queries = Queries(np.array([0, 3]), last, last)
    return Judge(data, Split("leave-one-out", np.array([2, 5]), np.array([2, 5]), queries[:0], queries), sampled=5)


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
    assert found.beyond["popularity"] == pytest.approx(
        (1 / 10 + 1 / 10) / 2
    )  # 4 in one list, 1 in the other: once each
    assert found.beyond["lift"] == pytest.approx(0.1 / ((1 + 2) / 2 + (2 + 1 + 0) / 3) * 2)
    assert {name: (part.queries, part.hr_10) for name, part in found.slices["popularity of the target"].items()} == {
        "head": (1, 0),
        "new": (1, 1),
    }
    assert {name: part.queries for name, part in found.slices["items of history"].items()} == {"2": 1, "3": 1}
    assert found.sampled.keys() == {"sampled_5_hr_10", "sampled_5_ndcg_10"}
    assert (len(found.shares), found.shares[0], found.shares[-1]) == (101, 0, 1)


class Repeating:
    """A service that gives item 2, which everybody has seen."""

    window = 3

    def answers(self, data: Interactions, queries: Queries, *, depth: int) -> Answers:
        places = np.full(len(queries), np.inf)
        return Answers(np.full((len(queries), depth), 2, np.int32), places, places)


def test_a_service_that_gives_what_was_seen_is_refused(judge) -> None:
    with pytest.raises(InputError, match="model: 2 of 2 lists hold an item of their own history"):
        judge.model("model", Repeating())
