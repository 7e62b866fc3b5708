import numpy as np
import pytest

from headwise.errors import InputError
from headwise_recsys.evaluation.sampled import negatives, sampled_metrics, sampled_ranks


def test_drawn_items_are_new_to_the_query_and_all_different(interactions, asking_last):
    data = interactions([1, 2, 4], [3, 5], [7, 7, 7], items=11)
    queries = asking_last(data)
    drawn = negatives(data, queries, 8, seed=3)
    for row, own in zip(drawn.tolist(), ([1, 2, 4], [3, 5], [7]), strict=True):
        assert len(set(row)) == 8
        assert set(row) <= set(range(1, 12)) - set(own)
    np.testing.assert_array_equal(drawn, negatives(data, queries, 8, seed=3))
    assert (drawn != negatives(data, queries, 8, seed=4)).any()


def test_every_item_is_drawn_as_often(interactions, asking_last):
    data = interactions(*([1, 2] for _ in range(997)), items=7)
    often = np.bincount(negatives(data, asking_last(data), 2).ravel(), minlength=8)
    assert often[:3].tolist() == [0, 0, 0]
    assert often[3:] == pytest.approx(997 * 2 / 5, rel=0.15)


def test_more_than_there_are_cannot_be_drawn(interactions, asking_last):
    data = interactions([1, 2, 3], items=5)
    with pytest.raises(InputError, match="3 items cannot be drawn for query 0, only 2 of 5 are neither its target"):
        negatives(data, asking_last(data), 3)


def test_rank_among_drawn_items_by_hand(interactions, asking_last):
    data = interactions([1, 2, 4], [3, 5], items=7)
    table = np.array([[99, 98, 9, 1, 5, 5, 7, 0], [99, 0, 0, 0, 0, 2, 3, 1]], np.float32)
    found = sampled_ranks(
        lambda data, queries: table, data, asking_last(data), np.array([[3, 5, 6], [1, 2, 7]], np.int32)
    )
    assert found.tolist() == [2.5, 1]  # 6 is better, 5 ties
    assert sampled_metrics(found, 3, k=1) == {"sampled_3_hr_1": 0.5, "sampled_3_ndcg_1": 0.5}
