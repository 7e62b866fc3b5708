import numpy as np
import pytest

from headwise_recsys.evaluation.shuffling import shuffled


@pytest.fixture
def data(interactions):
    return interactions(list(range(1, 30)), [31, 32], list(range(41, 54)), items=53)


@pytest.mark.parametrize(("window", "keep"), [(7, 0), (7, 1), (101, 2), (1, 3)])
def test_only_what_is_read_moves_and_stays_the_same_items(window, keep, data, asking_last):
    queries = asking_last(data)
    found = shuffled(data, queries, window=window, keep=keep, seed=1)
    for start, stop in zip(queries.starts, queries.stops, strict=True):
        first = max(start, stop - window)
        last = max(stop - keep, first)
        np.testing.assert_array_equal(found.items[start:first], data.items[start:first])
        np.testing.assert_array_equal(found.items[last : stop + 1], data.items[last : stop + 1])
        assert sorted(found.items[first:last]) == sorted(data.items[first:last])
        if last - first > 3:
            assert (found.items[first:last] != data.items[first:last]).any()


def test_the_same_seed_gives_the_same_order_and_the_data_stay(data, asking_last):
    before, queries = data.items.copy(), asking_last(data)
    first, again, other = (shuffled(data, queries, window=99, seed=seed).items for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(data.items, before)
