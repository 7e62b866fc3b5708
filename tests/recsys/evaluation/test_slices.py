import numpy as np
import pytest

from headwise_recsys.evaluation.slices import by_history, by_popularity
from headwise_recsys.splits import Queries


def test_parts_by_popularity_by_hand(interactions, asking_last):
    data = interactions([1, 3], [1, 2], [1, 5], [1, 4], items=7)
    events = np.array([0, 1, 3, 9, 1, 0, 0, 2])  # 3 is the head: a fifth of the five that were chosen
    found = by_popularity(data, asking_last(data), events)
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "head": [True, False, False, False],
        "tail": [False, True, False, True],
        "new": [False, False, True, False],
    }


def test_a_part_without_queries_is_left_out(interactions, asking_last):
    data = interactions([1, 3], items=5)
    assert list(by_popularity(data, asking_last(data), np.array([0, 1, 1, 9, 1, 1]))) == ["head"]


def test_parts_by_history_by_hand():
    lengths = np.array([5, 1, 2, 2, 9, 3, 7, 4])
    found = by_history(Queries(np.zeros(8, np.int64), lengths, lengths))
    assert {name: lengths[mask].tolist() for name, mask in found.items()} == {
        "1-2": [1, 2, 2],
        "3": [3],
        "4-5": [5, 4],
        "7-9": [9, 7],
    }


@pytest.mark.parametrize("lengths", [[4], [4, 4, 4], [1, 1, 1, 1, 9], list(range(1, 98))])
def test_every_query_is_in_one_part(lengths):
    lengths = np.array(lengths)
    found = by_history(Queries(np.zeros_like(lengths), lengths, lengths))
    assert np.sum(list(found.values()), axis=0).tolist() == [1] * len(lengths)
