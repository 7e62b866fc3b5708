from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise_recsys.batches import (
    Histories,
    InteractionBatches,
    PackedOrder,
    PackedRows,
    Part,
    Windows,
    ask,
    cut,
    pack,
)
from headwise_recsys.interactions import Interactions
from headwise_recsys.item_features import Tags
from headwise_recsys.splits import Queries, leave_one_out, temporal

WINDOW, ITEMS = 7, 31


def interactions(lengths: list[int], seed: int = 3) -> Interactions:
    rng = np.random.default_rng(seed)
    events = sum(lengths)
    return Interactions(
        items=rng.integers(1, ITEMS + 1, events).astype(np.int32),
        times=np.concatenate([np.sort(rng.integers(0, 997, length)) for length in lengths] or [[]]).astype(np.int64),
        offsets=np.cumsum([0, *lengths]),
        user_ids=list(range(len(lengths))),
        item_ids=list(range(101, 101 + ITEMS)),
        titles=None,
        name="made",
        fingerprint="",
        source="",
    )


def targets(windows: Windows) -> list[int]:
    return sorted(event for _, first, stop in windows.tolist() for event in range(first + 1, stop + 1))


def lognormal(median: float, spread: float, users: int) -> list[int]:
    draws = np.random.default_rng(5).lognormal(np.log(median), spread, users)
    return np.maximum(2, draws.round()).astype(int).tolist()


@pytest.fixture(scope="module")
def data() -> Interactions:
    return interactions([0, 1, 2, 3, 5, 8, 13, 21, 34, *lognormal(11, 0.7, 97)])


def order(data: Interactions, *, tokens: int = 61, window: int = WINDOW, seed: int = 3) -> PackedOrder:
    return PackedOrder(data, data.offsets[1:], window=window, tokens=tokens, seed=seed)


def epoch(order: PackedOrder, number: int) -> list[list[list[list[int]]]]:
    order.set_epoch(number)
    return [[row.tolist() for row in batch] for batch in order]


def test_cut_by_hand() -> None:
    # Users own events 0-3, 4, none, 5-12; the last has seven inputs, cut two after its first and then every three.
    rng: Any = SimpleNamespace(integers=lambda low, high: 2)
    windows = cut(np.array([0, 4, 5, 5]), np.array([4, 5, 5, 13]), 3, rng)
    assert windows.tolist() == [[0, 0, 3], [5, 5, 7], [7, 7, 10], [10, 10, 12]]


def test_cut_with_a_stride_by_hand() -> None:
    # Eleven inputs, windows of five with two targets each: the first is cut at four, so that it fills a window but for one.
    rng: Any = SimpleNamespace(integers=lambda low, high: 1)
    windows = cut(np.array([10]), np.array([22]), 5, rng, stride=2)
    assert windows.tolist() == [[10, 10, 14], [11, 14, 16], [13, 16, 18], [15, 18, 20], [17, 20, 21]]


@given(st.lists(st.integers(0, 43), max_size=17), st.integers(1, 11), st.integers(1, 11), st.integers(0, 997))
def test_every_event_but_the_first_is_a_target_once(lengths: list[int], window: int, stride: int, seed: int) -> None:
    offsets = np.cumsum([0, *lengths])
    stride = min(stride, window)
    windows = cut(offsets[:-1], offsets[1:], window, np.random.default_rng(seed), stride)
    assert targets(windows) == [e for a, b in pairwise(offsets) for e in range(a + 1, b)]
    begins, firsts, stops = windows.T
    assert (stops > firsts).all()
    assert (stops - begins).max(initial=1) <= window
    user_starts = offsets[np.searchsorted(offsets, begins, side="right") - 1]
    assert (firsts - begins >= np.minimum(window - stride, firsts - user_starts)).all()


@given(st.integers(1, 43), st.integers(1, 11), st.integers(0, 997))
def test_a_stride_of_one_shows_every_target_as_it_is_asked_for(length: int, window: int, seed: int) -> None:
    windows = cut(np.array([0]), np.array([length]), window, np.random.default_rng(seed), stride=1)
    contexts = {e: e - begin for begin, first, stop in windows.tolist() for e in range(first + 1, stop + 1)}
    assert contexts == {event: min(event, window) for event in range(1, length)}


def test_a_stride_beyond_the_window_is_refused() -> None:
    for stride in (0, 8):
        with pytest.raises(ValueError, match=rf"stride \({stride}\) must lie between 1 and the window \(7\)"):
            cut(np.array([0]), np.array([29]), WINDOW, np.random.default_rng(3), stride)


def test_over_the_epochs_a_target_is_seen_with_contexts_of_every_length() -> None:
    event, contexts = 17, set()
    for seed in range(97):
        windows = cut(np.array([0]), np.array([29]), WINDOW, np.random.default_rng(seed))
        contexts |= {event - start for start, _, stop in windows.tolist() if start < event <= stop}
    assert contexts == set(range(1, WINDOW + 1))


def test_pack_by_hand() -> None:
    # The third window would fit the first row as well, but leaves the second without a gap.
    assert pack(np.array([3, 4, 1, 2]), 5) == [[0, 3], [1, 2]]


@given(st.lists(st.integers(1, 13), max_size=43), st.integers(13, 29))
def test_every_window_lies_in_one_row_and_no_row_overflows(lengths: list[int], size: int) -> None:
    packed = pack(np.array(lengths, np.int64), size)
    assert sorted(window for row in packed for window in row) == list(range(len(lengths)))
    assert all(sum(lengths[window] for window in row) <= size for row in packed)


@pytest.mark.parametrize(("median", "spread", "window"), [(96, 0.9, 200), (6, 0.7, 50)], ids=["MovieLens", "Beauty"])
def test_rows_are_nine_tenths_full(median: float, spread: float, window: int) -> None:
    data = interactions(lognormal(median, spread, 1009))
    rows = [row for batch in epoch(order(data, tokens=8192, window=window), 0) for row in batch]
    used = sum(stop - start for row in rows for start, _, stop in row)
    assert used == data.events - data.users
    assert used >= 0.9 * len(rows) * window


def test_a_window_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="a window of 11 tokens does not fit a row of 7"):
        pack(np.array([3, 11, 2]), 7)


def test_an_epoch_follows_from_seed_and_number_alone(data: Interactions) -> None:
    played = [epoch(order(data), number) for number in range(3)]
    later = order(data)
    assert epoch(later, 2) == played[2]
    assert epoch(later, 0) == played[0]
    assert played[0] != played[1] != played[2]
    assert epoch(order(data, seed=5), 2) != played[2]


@pytest.mark.parametrize("tokens", [1, WINDOW, 61, 331, 10**6])
def test_every_epoch_has_as_many_batches_as_promised_and_none_is_empty(data: Interactions, tokens: int) -> None:
    drawn = order(data, tokens=tokens)
    for number in range(11):
        batches = epoch(drawn, number)
        assert len(batches) == len(drawn)
        assert all(batches)
        windows = [window for batch in batches for row in batch for window in row]
        assert len(targets(np.array(windows))) == len(set(targets(np.array(windows)))) == drawn_targets(data)


def drawn_targets(data: Interactions) -> int:
    return int(np.maximum(np.diff(data.offsets) - 1, 0).sum())


def test_batches_hold_about_the_tokens_asked_for(data: Interactions) -> None:
    sizes = [sum(b - a for row in batch for a, _, b in row) for batch in epoch(order(data, tokens=61), 1)]
    assert abs(np.mean(sizes) - 61) < 3
    assert max(sizes) <= 61 + 2 * WINDOW


def test_training_stays_before_the_cut_of_the_temporal_split(data: Interactions) -> None:
    split = temporal(data, 0.7)
    assert (split.train_stops == data.offsets[:-1]).sum() > 2  # some users come after the cut
    ordered = PackedOrder(data, split.train_stops, window=WINDOW, tokens=61, seed=3)
    windows = np.array([window for batch in epoch(ordered, 0) for row in batch for window in row])
    pairs = zip(data.offsets, split.train_stops, strict=False)
    assert targets(windows) == [event for start, stop in pairs for event in range(start + 1, stop)]


def test_nothing_to_train_on_is_one_clear_message() -> None:
    with pytest.raises(InputError, match="made: no user has two events to train on; add data"):
        order(interactions([1, 0, 1]))


def test_what_a_packed_batch_holds() -> None:
    rows = PackedRows(interactions([23]), 5)
    assert rows.data.times is not None
    items, times = rows.data.items.tolist(), rows.data.times.tolist()
    packed = rows[[np.array([[0, 0, 2], [4, 5, 7]]), np.array([[11, 11, 12]])]]
    assert packed.items.tolist() == [[*items[0:2], *items[4:7]], [items[11], 0, 0, 0, 0]]
    assert packed.targets.tolist() == [[*items[1:3], 0, *items[6:8]], [items[12], 0, 0, 0, 0]]
    assert packed.at.position.tolist() == [[0, 1, 0, 1, 2], [0, 0, 0, 0, 0]]
    assert packed.at.segment.tolist() == [[1, 1, 2, 2, 2], [1, 0, 0, 0, 0]]
    assert packed.at.time.tolist() == [[*times[0:2], *times[4:7]], [times[11], 0, 0, 0, 0]]
    assert packed.context == {}
    known = PackedRows(rows.data, 5, beside=("times", "at"))[
        [np.array([[0, 0, 2], [4, 5, 7]]), np.array([[11, 11, 12]])]
    ]
    assert known.context["at"].tolist() == [[*times[1:3], *times[5:8]], [times[12], 0, 0, 0, 0]]


def test_what_each_target_s_user_had_seen() -> None:
    data = interactions([3, 23, 5])
    packed = PackedRows(data, 7, seen=True)[[np.array([[9, 11, 14], [0, 0, 2]]), np.array([[26, 26, 29]])]]
    inputs = [11, 12, 13, 0, 1, 26, 27, 28]  # those that have a target, as the mask finds them
    assert packed.items[packed.targets > 0].tolist() == data.items[inputs].tolist()
    assert packed.seen is not None
    items, starts, stops = packed.seen
    seen = [items[start:stop].tolist() for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
    users = [3, 3, 3, 0, 0, 26, 26, 26]
    assert seen == [data.items[user : event + 1].tolist() for user, event in zip(users, inputs, strict=True)]
    assert PackedRows(data, 7)[[np.array([[0, 0, 2]])]].seen is None


def typed(data: Interactions) -> Interactions:
    types = np.random.default_rng(7).integers(1, 3, data.events).astype(np.int16)
    return replace(data, types=types, type_names=("view", "buy"))


def test_types_are_told_and_some_alone_are_learned() -> None:
    data = typed(interactions([3, 23, 5]))
    assert data.types is not None
    learned = data.types == 2
    windows = [np.array([[9, 11, 14], [0, 0, 2]]), np.array([[26, 26, 29]])]
    every = PackedRows(data, 7, beside=("types",), seen=True)[windows]
    packed = PackedRows(data, 7, beside=("types",), learned=learned, seen=True)[windows]
    events = np.array([[9, 10, 11, 12, 13, 0, 1], [26, 27, 28, 0, 0, 0, 0]])
    assert packed.context["types"].tolist() == (data.types[events] * (packed.items > 0).numpy()).tolist()
    kept = learned[events + 1]
    assert torch.equal(packed.targets, every.targets * torch.from_numpy(kept))
    assert 0 < (packed.targets > 0).sum() < (every.targets > 0).sum()
    assert packed.seen is not None
    assert every.seen is not None
    among = torch.from_numpy(kept)[every.targets > 0]
    assert packed.seen.stops.tolist() == every.seen.stops[among].tolist()
    halves = [PackedRows(data, 7, learned=learned, part=Part(rank, 2))[windows] for rank in range(2)]
    counts = [int((half.targets > 0).sum()) for half in halves]
    assert [half.weight for half in halves] == [2 * count / sum(counts) for count in counts]


def test_whose_history_it_is() -> None:
    data = interactions([3, 23, 5, 2])
    team = Tags("team", ("blue", "red"), np.array([[0], [1], [2], [0], [1]], np.int32))
    data = replace(data, user_features=(team,))
    windows = [np.array([[9, 11, 14], [0, 0, 2]]), np.array([[26, 26, 29]])]
    user = PackedRows(data, 7, beside=("user",))[windows].context["user"]
    assert user.tolist() == [[[0, 1], [1, 0]], [[0, 0], [0, 0]]]
    queries = Queries(np.array([0, 26, 31]), np.array([2, 27, 32]), np.array([2, 27, 32]))
    assert ask(data, queries, 5, ("user",)).beside["user"].tolist() == [[1, 0], [0, 0], [1, 0]]


def test_what_is_asked() -> None:
    data = interactions([11, 3])
    queries = Queries(np.array([0, 3, 11]), np.array([2, 9, 11]), np.array([2, 9, 11]))
    asked = ask(data, queries, 5)
    assert asked.lengths.tolist() == [2, 5, 0]
    assert asked.beside == {}
    known = ask(data, queries, 5, ("times", "at")).beside
    assert data.times is not None
    assert list(known) == ["times", "at"]
    for got, source in ((asked.history, data.items.tolist()), (known["times"], data.times.tolist())):
        assert got.tolist() == [[*source[0:2], 0, 0, 0], source[4:9], [0, 0, 0, 0, 0]]
    assert known["at"].tolist() == data.times[[2, 9, 11]].tolist()
    kinds = typed(data)
    assert kinds.types is not None
    told, source = ask(kinds, queries, 5, ("types",)).beside["types"], kinds.types.tolist()
    assert told.tolist() == [[*source[0:2], 0, 0, 0], source[4:9], [0, 0, 0, 0, 0]]
    timeless = replace(data, times=None)
    assert not ask(timeless, queries, 5).beside
    assert not PackedRows(timeless, 5)[[np.array([[0, 0, 3]])]].at.time.any()


def test_validation_asks_every_query_once_in_batches_of_like_length(data: Interactions) -> None:
    queries = leave_one_out(data).valid
    batches = list(Histories(data, queries, window=WINDOW, size=13))
    assert sorted(t for batch in batches for t in batch.queries.targets.tolist()) == sorted(queries.targets.tolist())
    lengths = np.concatenate([batch.lengths for batch in batches])
    assert (np.diff(lengths) >= 0).all()
    assert max(len(batch.lengths) for batch in batches) <= 13


def test_the_loaders_give_what_the_task_takes(data: Interactions) -> None:
    split = leave_one_out(data)
    batches = InteractionBatches(data, split, window=WINDOW, tokens=61, seed=3)
    loader = batches.train_dataloader()
    packed = list(loader)
    assert len(loader) == len(packed) == len(batches.order)
    assert {batch.items.shape[1] for batch in packed} == {WINDOW}
    seen = int(sum((batch.at.segment > 0).sum() for batch in packed))
    assert seen == int(np.maximum(split.train_stops - data.offsets[:-1] - 1, 0).sum())
    assert sum(len(asked.queries) for asked in batches.val_dataloader()) == len(split.valid)


def test_queries_stay_arrays_when_a_batch_moves(data: Interactions) -> None:
    split = leave_one_out(data)
    batches = InteractionBatches(data, split, window=WINDOW, tokens=61, seed=3, beside=("times", "at"))
    asked = next(iter(batches.val_dataloader()))
    moved = batches.transfer_batch_to_device(asked, torch.device("meta"), 0)
    assert {tensor.device.type for tensor in (moved.history, moved.lengths, *moved.beside.values())} == {"meta"}
    assert moved.queries is asked.queries
    packed = batches.transfer_batch_to_device(next(iter(batches.train_dataloader())), torch.device("meta"), 0)
    assert packed.at.segment.device.type == packed.targets.device.type == "meta"
    telling = InteractionBatches(data, leave_one_out(data), window=WINDOW, tokens=61, seed=3, seen=True)
    packed = telling.transfer_batch_to_device(next(iter(telling.train_dataloader())), torch.device("meta"), 0)
    assert {tensor.device.type for tensor in packed.seen} == {"meta"}
