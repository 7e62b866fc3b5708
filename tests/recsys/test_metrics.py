from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise_recsys.interactions import Interactions
from headwise_recsys.metrics import (
    Evaluation,
    at_once,
    eligible,
    evaluate,
    hit_rate,
    ndcg,
    places,
    ranks,
    reciprocal_rank,
)
from headwise_recsys.splits import Queries

ITEMS = 13


def histories(*rows):
    """Each row is a history and, last, its target."""
    items = np.array([item for row in rows for item in row], np.int32)
    ends = np.cumsum([len(row) for row in rows])
    starts = ends - [len(row) for row in rows]
    data = Interactions(
        items=items,
        times=None,
        offsets=np.concatenate([[0], ends]),
        user_ids=list(range(len(rows))),
        item_ids=list(range(ITEMS)),
        titles=None,
        name="made",
        fingerprint="",
        source="made.csv",
    )
    return data, Queries(starts, ends - 1, ends - 1)


def scores(**of_items):
    row = np.zeros(ITEMS + 1, np.float32)
    for name, value in of_items.items():
        row[int(name[1:])] = value
    return row


def test_rank_by_hand():
    data, queries = histories([1, 2, 7], [3, 5])
    table = np.stack([scores(_1=9, _2=8, _3=7, _7=6, _4=6, _5=6, _0=99), scores(_3=1, _5=2)])
    # Items 1 and 2 are history and 0 is padding; item 3 is better; 4 and 5 are equal: ranks 2, 3, 4, at their mean.
    assert ranks(table, data, queries).tolist() == [3, 1]


def test_ties_fall_for_or_against_the_target():
    data, queries = histories([1, 2, 7], [3, 5], [7, 7])
    table = np.stack([scores(_1=9, _2=8, _3=7, _7=6, _4=6, _5=6, _0=99), scores(_3=1, _5=2), scores(_7=1)])
    best, worst = places(eligible(table, data, queries), data.items[queries.targets])
    assert best.tolist() == [2, 1, np.inf]
    assert worst.tolist() == [4, 1, np.inf]


def test_a_constant_scorer_ranks_in_the_middle():
    data, queries = histories([1, 2, 7], [3, 5])
    assert ranks(np.zeros((2, ITEMS + 1), np.float32), data, queries).tolist() == [(11 + 1) / 2, (12 + 1) / 2]


def test_a_target_in_its_own_history_is_a_counted_miss():
    data, queries = histories([1, 7, 2, 7], [3, 5])
    found = evaluate(lambda data, queries: np.stack([scores(_7=1), scores(_5=1)]), data, queries)
    assert found.ranks.tolist() == [np.inf, 1]
    assert found.repeats == 1
    assert found.metrics((5,)) == {"hr_5": 0.5, "ndcg_5": 0.5, "mrr": 0.5, "repeats": 0.5}


def test_items_of_the_history_count_where_they_may_come_again():
    data, queries = histories([1, 7, 2, 7], [3, 5])
    again = replace(queries, repeats=True)
    table = np.stack([scores(_1=9, _7=1), scores(_3=2, _5=1)])
    assert ranks(table, data, again).tolist() == [2, 2]
    assert again[:1].repeats


def test_a_target_event_inside_its_history_is_a_leak():
    data, queries = histories([1, 2, 7], [3, 5])
    leaking = Queries(queries.starts, queries.stops + 1, queries.targets)
    with pytest.raises(ValueError, match="leak: 2 of 2 targets"):
        evaluate(lambda data, queries: np.zeros((len(queries), ITEMS + 1)), data, leaking)


def test_scores_that_are_not_numbers_are_refused():
    data, queries = histories([1, 2, 7], [3, 5])
    with pytest.raises(ValueError, match="1 of 2 queries hold NaN"):
        ranks(np.stack([scores(), scores(_5=np.nan)]), data, queries)


def test_scores_of_another_shape_are_refused():
    data, queries = histories([1, 2, 7], [3, 5])
    with pytest.raises(ValueError, match=r"shape \(2, 13\), one row a query and one column an item make \(2, 14\)"):
        ranks(np.zeros((2, ITEMS)), data, queries)


def test_no_queries_is_an_input_error():
    data, queries = histories([1, 2, 7])
    with pytest.raises(InputError, match="no queries to evaluate"):
        evaluate(lambda data, queries: np.zeros((0, ITEMS + 1)), data, queries[:0])


def test_what_is_not_eligible_may_score_minus_infinity():
    data, queries = histories([1, 2, 7])
    row = np.full(ITEMS + 1, -np.inf, np.float32)
    row[7] = 0
    assert ranks(row[None], data, queries).tolist() == [1]
    assert ranks(np.full((1, ITEMS + 1), -np.inf), data, queries).tolist() == [6]


def test_metrics_by_hand():
    found = np.array([1, 3, 11, np.inf])
    assert hit_rate(found, 10).tolist() == [1, 1, 0, 0]
    assert ndcg(found, 10).tolist() == [1, 0.5, 0, 0]
    assert reciprocal_rank(found).tolist() == [1, 1 / 3, 1 / 11, 0]
    assert Evaluation(found).metrics((1, 10))["hr_1"] == 0.25


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, ITEMS), min_size=2, max_size=7), min_size=1, max_size=5), st.randoms())
def test_rank_is_that_of_sorting_what_is_left(rows, random):
    data, queries = histories(*rows)
    table = np.array([[random.randint(0, 3) for _ in range(ITEMS + 1)] for _ in rows], np.float32)
    untouched = table.copy()
    found = evaluate(lambda data, part: table[: len(part)], data, queries, batch=len(rows)).ranks
    np.testing.assert_array_equal(table, untouched)
    for row, of, rank in zip(rows, table, found, strict=True):
        *history, target = row
        if target in history:
            assert rank == np.inf
        else:
            left = sorted((of[item] for item in range(1, ITEMS + 1) if item not in history), reverse=True)
            assert rank == np.mean([place for place, value in enumerate(left, 1) if value == of[target]])


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_batches_change_nothing(batch):
    data, queries = histories([1, 2, 7], [3, 5], [11, 12, 13, 1], [2, 4], [4, 2])
    table = np.random.default_rng(0).normal(size=(ITEMS + 1, ITEMS + 1)).astype(np.float32)

    def scorer(data, queries):
        return table[data.items[queries.stops - 1]]

    np.testing.assert_array_equal(evaluate(scorer, data, queries, batch).ranks, evaluate(scorer, data, queries).ranks)


def test_large_catalogues_are_scored_in_batches_that_fit_memory() -> None:
    assert at_once(3416, 256) == 256
    assert at_once(1_000_000, 256) == 67
    assert at_once(10**9, 256) == 1
