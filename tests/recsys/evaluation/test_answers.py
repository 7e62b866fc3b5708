import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise_recsys.evaluation.answers import answer, per_query
from headwise_recsys.metrics import evaluate

ITEMS = 13


def giving(table):
    """Scores by the last item of the history."""
    return lambda data, queries: table[data.items[queries.stops - 1]]


def test_lists_and_ranks_by_hand(interactions, asking_last):
    data = interactions([1, 2, 4], [3, 5], items=5)
    table = np.zeros((6, 6), np.float32)
    table[2] = [99, 98, 97, 1, 2, 2]  # 1 and 2 are history: 4 and 5 tie, then 3
    table[3] = [99, 5, 4, 98, -np.inf, 3]
    found = answer(giving(table), data, asking_last(data), depth=4)
    assert found.items.tolist() == [[4, 5, 3, 0], [1, 2, 5, 4]]
    assert (found.best.tolist(), found.worst.tolist()) == ([1, 3], [2, 3])
    assert found.ranks.tolist() == [1.5, 3]


@given(st.integers(1, ITEMS + 3), st.integers(0, 99))
def test_a_list_holds_what_ranks_count(interactions, asking_last, depth, seed):
    random = np.random.default_rng(seed)
    data = interactions(*(random.integers(1, ITEMS + 1, random.integers(2, 9)) for _ in range(7)), items=ITEMS)
    queries = asking_last(data)
    table = random.integers(0, 5, (ITEMS + 1, ITEMS + 1)).astype(np.float32)
    found = answer(giving(table), data, queries, depth=depth, batch=3)
    np.testing.assert_array_equal(found.ranks, evaluate(giving(table), data, queries).ranks)
    for items, best, worst, target in zip(
        found.items, found.best, found.worst, data.items[queries.targets], strict=True
    ):
        if target in items:
            assert best <= items.tolist().index(target) + 1 <= worst
        else:
            assert worst > depth
    assert found.items.shape == (len(queries), min(depth, ITEMS))


def test_metrics_by_hand():
    found = per_query(np.array([1, 3, 20.5, np.inf]), (1, 10, 20))
    assert list(found) == ["hr_1", "hr_10", "hr_20", "ndcg_1", "ndcg_10", "ndcg_20", "mrr_20"]
    assert found["hr_10"].tolist() == [1, 1, 0, 0]
    assert found["ndcg_20"].tolist() == pytest.approx([1, 0.5, 0, 0])
    assert found["mrr_20"].tolist() == pytest.approx([1, 1 / 3, 0, 0])
