import numpy as np
import pytest

from headwise_recsys.evaluation.beyond_accuracy import (
    coverage,
    distance,
    gini,
    history_popularity,
    known,
    novelty,
    popularity,
    share_by_popularity,
)


@pytest.fixture
def facts(interactions):
    """Items 1 and 2 have the same two users, 3 has one of them and another twice, 4 one more, 5 nobody."""
    data = interactions([1, 2, 3, 5], [1, 2, 5], [3, 3, 4, 5], items=5)
    return known(data, data.offsets[1:] - 1)


def test_what_training_tells_of_items(facts):
    assert facts.events.tolist() == [0, 2, 2, 3, 1, 0]
    assert facts.users.tolist() == [0, 2, 2, 2, 1, 0]
    assert facts.people == 3
    np.testing.assert_allclose(facts.directions.power(2).sum(axis=1), [0, 1, 1, 1, 1, 0])


def test_coverage_by_hand():
    assert coverage(np.array([[1, 2], [2, 0]], np.int32), 5) == 2 / 5


def test_gini_by_hand():
    assert gini(np.array([[1, 2, 3, 4, 5]], np.int32), 5) == 0
    assert gini(np.array([[2], [2], [2]], np.int32), 5) == pytest.approx(4 / 5)
    assert gini(np.array([[1, 2], [2, 0]], np.int32), 2) == pytest.approx(1 / 6)  # 1 and 2 places: (2 - 1) / (2 x 3)


def test_novelty_by_hand(facts):
    lists = np.array([[1, 2], [4, 5], [5, 0], [3, 0], [0, 0]], np.int32)
    want = [-np.log2(3 / 4), (1 + 2) / 2, 2, -np.log2(3 / 4), 0]
    np.testing.assert_allclose(novelty(lists, facts), want)


def test_popularity_by_hand(facts, interactions, asking_last):
    assert popularity(np.array([[1, 3], [5, 0]], np.int32), facts).tolist() == [2.5, 0]
    data = interactions([3, 4, 1], [5, 2], items=5)
    assert history_popularity(data, asking_last(data), facts) == ((3 + 1) / 2 + 0) / 2


def test_distance_by_hand(facts):
    lists = np.array([[1, 2, 0], [1, 4, 0], [1, 3, 0], [1, 2, 3], [5, 1, 0], [3, 0, 0], [0, 0, 0]], np.int32)
    want = [0, 1, 1 / 2, (0 + 1 / 2 + 1 / 2) / 3, 1, 0, 0]
    np.testing.assert_allclose(distance(lists, facts), want, atol=1e-6)


def test_distance_is_the_formula_in_blocks_of_any_size(interactions, monkeypatch):
    random = np.random.default_rng(0)
    data = interactions(*(random.integers(1, 18, 11) for _ in range(31)), items=17)
    facts = known(data, data.offsets[1:])
    lists = np.stack([random.permutation(17)[:7] + 1 for _ in range(23)]).astype(np.int32)
    directions = facts.directions.toarray()
    cosines = directions @ directions.T
    upper = np.triu_indices(7, 1)
    want = [1 - cosines[np.ix_(row, row)][upper].mean() for row in lists]
    for block in (1, 5, 256):
        monkeypatch.setattr("headwise_recsys.evaluation.beyond_accuracy.BLOCK", block)
        np.testing.assert_allclose(distance(lists, facts), want, atol=1e-5)


def test_shares_by_popularity(facts):
    # By popularity the items are 3, 1, 2, 4, 5.
    found = share_by_popularity(np.array([[3, 5], [3, 0], [2, 0]], np.int32), facts)
    np.testing.assert_allclose(found, [2 / 4, 2 / 4, 3 / 4, 3 / 4, 1])
