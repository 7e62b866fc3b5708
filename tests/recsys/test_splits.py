from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise_recsys.interactions import Interactions
from headwise_recsys.prepare import prepare
from headwise_recsys.splits import Queries, leave_one_out, spans, temporal

DATA = Path(__file__).parents[3] / "shared/data"


def interactions(histories, times=None):
    lengths = [len(history) for history in histories]
    items = np.array([item for history in histories for item in history], np.int32)
    return Interactions(
        items=items,
        times=None if times is None else np.array([time for own in times for time in own], np.int64),
        offsets=np.cumsum([0, *lengths]),
        user_ids=list(range(len(histories))),
        item_ids=list(range(int(items.max()))),
        titles=None,
        name="made",
        fingerprint="",
        source="made.csv",
    )


def asked(queries: Queries):
    return list(zip(queries.starts.tolist(), queries.stops.tolist(), queries.targets.tolist(), strict=True))


@st.composite
def timed(draw):
    times = draw(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=7).map(sorted), min_size=2, max_size=11))
    return interactions([[1 + time % 5 for time in own] for own in times], times)


def test_leave_one_out_by_hand():
    split = leave_one_out(interactions([[1, 2, 3, 4], [5, 6], [7], [1, 3, 5]]))
    assert split.name == "leave-one-out"
    assert split.train_stops.tolist() == [2, 6, 7, 8]
    assert split.before_test.tolist() == [3, 6, 7, 9]
    assert asked(split.valid) == [(0, 2, 2), (7, 8, 8)]
    assert asked(split.test) == [(0, 3, 3), (7, 9, 9)]


def typed(histories, kinds, times=None):
    types = np.array(["vb".index(kind) + 1 for own in kinds for kind in own], np.int16)
    return replace(interactions(histories, times), types=types, type_names=("view", "buy"))


def test_leave_one_out_of_some_types_by_hand():
    # The first user's purchases are events 1 and 3, the second has one alone, the third begins with one.
    data = typed([[1, 2, 3, 4, 5], [5, 6, 7], [1, 2, 3, 4]], ["vbvbv", "vvb", "bvbb"])
    split = leave_one_out(data, ("buy",))
    assert asked(split.valid) == [(0, 1, 1), (8, 10, 10)]
    assert asked(split.test) == [(0, 3, 3), (8, 11, 11)]
    assert split.train_stops.tolist() == [1, 8, 10]
    assert split.before_test.tolist() == [3, 8, 11]
    with pytest.raises(InputError, match="made: no event is of the type gift; known types: view, buy"):
        leave_one_out(data, ("gift", "buy"))
    with pytest.raises(InputError, match=r"of the type buy; known types: none; name the column .* columns\.event"):
        leave_one_out(interactions([[1, 2, 3]]), ("buy",))


def test_temporal_of_some_types_by_hand():
    times = [[0, 3, 9, 10], [1, 2, 4, 8], [5, 6, 7, 8]]
    data = typed([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]], ["vbbv", "bvvv", "bvbv"], times)
    split = temporal(data, quantile=0.5, targets=("buy",))  # cuts: after 5 and, of the six up to there, after 2
    assert asked(split.valid) == [(0, 1, 1)]
    assert asked(split.test) == [(0, 2, 2), (8, 10, 10)]
    everything = temporal(data, quantile=0.5)
    assert asked(temporal(data, quantile=0.5, targets=("view", "buy")).test) == asked(everything.test)


def test_leave_one_out_needs_three_events():
    with pytest.raises(InputError, match="no user has three events"):
        leave_one_out(interactions([[1, 2], [3]]))


def test_temporal_by_hand():
    # Quantile .5 of eleven times: the sixth, 5. Of the six up to there: the third, 2.
    times = [[0, 3, 9], [1, 2, 4], [5, 6, 7, 8], [10]]
    split = temporal(interactions([[1, 2, 3], [1, 2, 3], [1, 2, 3, 1], [4]], times), quantile=0.5)
    assert split.name == "temporal"
    assert split.train_stops.tolist() == [1, 5, 6, 10]
    assert split.before_test.tolist() == [2, 6, 7, 10]
    assert asked(split.valid) == [(0, 1, 1), (3, 5, 5)]  # user 2 has a single event by then: nothing to predict it from
    assert asked(split.test) == [(0, 2, 2), (6, 9, 9)]  # user 3 has a single event at all


def test_temporal_without_times_says_what_to_do():
    with pytest.raises(
        InputError, match=r"made\.csv has none; give data with a timestamp column, or use leave-one-out"
    ):
        temporal(interactions([[1, 2, 3]]))


def test_temporal_without_an_event_after_the_cut():
    with pytest.raises(InputError, match="no user has an event after the test cut"):
        temporal(interactions([[1, 2, 3]], [[5, 5, 5]]))


@pytest.mark.parametrize("quantile", [0, 1, 1.5])
def test_temporal_refuses_a_quantile_outside(quantile):
    with pytest.raises(InputError, match="must lie between 0 and 1"):
        temporal(interactions([[1, 2, 3]], [[1, 2, 3]]), quantile)


@settings(deadline=None)
@given(timed(), st.sampled_from([leave_one_out, temporal]))
def test_nothing_asked_is_trained_on(data, split):
    try:
        made = split(data)
    except InputError:
        return
    trained = set(spans(data.offsets[:-1], made.train_stops)[1].tolist())
    for queries in (made.valid, made.test):
        assert trained.isdisjoint(queries.targets.tolist())
        assert (queries.starts < queries.stops).all()
        assert (queries.stops == queries.targets).all()
    assert set(made.valid.targets.tolist()).isdisjoint(made.test.targets.tolist())


@settings(deadline=None)
@given(timed())
def test_temporal_trains_on_no_event_after_any_target_time(data):
    try:
        split = temporal(data)
    except InputError:
        return
    trained = data.times[spans(data.offsets[:-1], split.train_stops)[1]]
    assert trained.max() < data.times[split.valid.targets].min()
    assert data.times[split.valid.targets].max() < data.times[split.test.targets].min()
    assert (split.test.targets == data.offsets[1:][np.isin(data.offsets[1:] - 1, split.test.targets)] - 1).all()


def test_spans_lists_every_event_of_every_range():
    rows, events = spans(np.array([3, 11, 5]), np.array([5, 11, 8]))
    assert rows.tolist() == [0, 0, 2, 2, 2]
    assert events.tolist() == [3, 4, 5, 6, 7]


def test_batches_hold_all_queries_in_order():
    queries = Queries(np.arange(7), np.arange(7) + 1, np.arange(7) + 2)
    parts = list(queries.batches(3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert [query for part in parts for query in asked(part)] == asked(queries)


@pytest.mark.skipif(not (DATA / "ml-1m").exists(), reason=f"needs MovieLens 1M in {DATA}")
def test_movielens_1m_has_1209_temporal_test_queries(tmp_path):
    data = prepare(DATA / "ml-1m", tmp_path)
    split = temporal(data)
    assert (len(split.test), len(split.valid)) == (1209, 1055)
    assert data.times[split.test.targets].min() > 978_132_504  # 2000-12-29 23:28:24 UTC
    assert data.times[split.valid.targets].max() <= 978_132_504
    assert len(leave_one_out(data).test) == 6040


def test_where_items_may_come_again_both_parts_know():
    once = leave_one_out(interactions([[1, 2, 3, 4]]))
    again = once.repeating()
    assert (again.valid.repeats, again.test.repeats) == (True, True)
    assert (once.valid.repeats, once.test.repeats) == (False, False)
    assert again.valid.targets.tolist() == once.valid.targets.tolist()
