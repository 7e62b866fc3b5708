"""A model folder beside data whose items it knows in part: after item n it gives n+1, n+2 ... of its circle of eleven."""

import numpy as np
import pytest

from headwise.errors import InputError
from headwise_pipelines.recsys.served import Served
from headwise_recsys.interactions import Interactions
from headwise_recsys.splits import Queries

OWN = [139, 7, 103, 101, 151, 107]  # ids of the data's items 1 to 6; the model calls them 9, nothing, 2, 1, 11, 3


def data_of(*rows: list[int]) -> Interactions:
    return Interactions(
        items=np.array([item for row in rows for item in row], np.int32),
        times=None,
        offsets=np.cumsum([0, *map(len, rows)]),
        user_ids=list(range(len(rows))),
        item_ids=list(OWN),
        titles=None,
        name="made",
        fingerprint="",
        source="made.csv",
    )


def last_of_each(data: Interactions) -> Queries:
    last = data.offsets[1:] - 1
    return Queries(data.offsets[:-1], last, last)


def test_answers_by_hand(recommender_folder) -> None:
    data = data_of([4, 6], [5, 4, 3], [3, 2], [2, 6], [4, 2, 3])
    served = Served(recommender_folder, data)
    found = served.answers(data, last_of_each(data), depth=4)
    # After 1 the model gives 2, 3, 4, 5, of which the data know 2 and 3, by the names 3 and 6.
    assert found.items.tolist() == [[3, 6, 0, 0], [3, 6, 0, 0], [6, 0, 0, 0], [0, 0, 0, 0], [3, 6, 0, 0]]
    # The third target is unknown, and so is all of the fourth history; the fifth's second item is passed over.
    assert found.ranks.tolist() == [2, 1, np.inf, np.inf, 1]
    assert served.known == 5 / 6
    assert served.window == 5


def test_no_deeper_than_the_graph_goes(recommender_folder) -> None:
    data = data_of([4, 6])
    found = Served(recommender_folder, data).answers(data, last_of_each(data), depth=100)
    assert found.items.shape == (1, 7)


def test_equal_scores_share_their_places(recommender_folder, monkeypatch) -> None:
    data = data_of([4, 6], [4, 3])
    served = Served(recommender_folder, data)
    ranking = np.array([11, 3, 8, 2]), np.array([5, 3, 3, 3], np.float32)
    monkeypatch.setattr(served._service, "rank_many", lambda histories, k, **_: [ranking] * len(histories))
    found = served.answers(data, last_of_each(data), depth=4)
    assert (found.best.tolist(), found.worst.tolist()) == ([2, 2], [4, 4])


def test_rank_among_drawn_items_by_hand(recommender_folder) -> None:
    data = data_of([4, 6], [3, 5], [3, 2])
    served = Served(recommender_folder, data)
    # After 1: 3 is behind 2, before 9 and 11. After 2: 11 is behind 3 and 9, before 1. An unknown target is a miss.
    drawn = np.array([[1, 3, 5, 2], [6, 1, 2, 4], [6, 1, 5, 4]], np.int32)
    assert served.sampled_ranks(data, last_of_each(data), drawn).tolist() == [2, 3, np.inf]


def test_data_of_which_nothing_is_known_are_refused(recommender_folder) -> None:
    data = data_of([1, 2])
    data.item_ids[:] = ["a", "b", "c", "d", "e", "f"]
    with pytest.raises(InputError, match="made: the model knows none of its 6 items; is it the right"):
        Served(recommender_folder, data)
