"""What is trained on and what is asked: leave-one-out and one cut in time. Always report both.

Leave-one-out is the split of the literature. It trains on events that happened after the events it asks for, of other
users, so that it flatters models that know the future popularity of items; the temporal split does not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError
from headwise_recsys.interactions import Interactions


@dataclass(frozen=True, eq=False)
class Queries:
    """Questions about the next item: predict `data.items[targets[i]]` from `data.items[starts[i]:stops[i]]`.

    Attributes:
        starts: int64 [n], position of the first event of each history.
        stops: int64 [n], one past the last event of each history.
        targets: int64 [n], position of the event to predict.
        repeats: whether an item of the history may be the answer.
    """

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    targets: NDArray[np.int64]
    repeats: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> "Queries":
        return Queries(self.starts[rows], self.stops[rows], self.targets[rows], self.repeats)

    def batches(self, size: int) -> Iterator["Queries"]:
        """The same queries in order, at most `size` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))


@dataclass(frozen=True, eq=False)
class Split:
    """One division of the same interactions.

    Attributes:
        name: "leave-one-out" or "temporal".
        train_stops: int64 [users]; user u trains on events `offsets[u]` to `train_stops[u]`, possibly none.
        before_test: int64 [users]; likewise with the validation events, for a recipe that has been chosen.
        valid: what models are chosen on.
        test: what is read once, at the end.
    """

    name: str
    train_stops: NDArray[np.int64]
    before_test: NDArray[np.int64]
    valid: Queries
    test: Queries

    def repeating(self) -> "Split":
        """The same division, where items of a history may come again."""
        valid, test = replace(self.valid, repeats=True), replace(self.test, repeats=True)
        return replace(self, valid=valid, test=test)


def leave_one_out(data: Interactions, targets: Sequence[str] = ()) -> Split:
    """Each user's last event is the test, the one before it the validation, all before that the training.

    The history of a test query holds the validation event, and what happened between the two. Users with fewer than two
    events that may be asked for, or none before these, are trained on whole and ask nothing.

    Args:
        data: the interactions.
        targets: types of the events that are asked for; of all where there are none.

    Raises:
        InputError: no user has three events, or the data know no such type.
    """
    first, end = data.offsets[:-1], data.offsets[1:]
    latest = _latest(data, targets)
    test = latest[end]
    valid = latest[test.clip(min=0)]
    asks = valid > first
    if not asks.any():
        raise InputError(
            f"{data.name}: no user has three events, two of them to ask for, which leave-one-out needs; lower min_count or add "
            "data"
        )
    return Split(
        name="leave-one-out",
        train_stops=np.where(asks, valid, end),
        before_test=np.where(asks, test, end),
        valid=Queries(first[asks], valid[asks], valid[asks]),
        test=Queries(first[asks], test[asks], test[asks]),
    )


def temporal(data: Interactions, quantile: float = 0.9, targets: Sequence[str] = ()) -> Split:
    """One cut in time for everybody: nothing after it is trained on or chosen on.

    The cut is the earliest time with at least the share `quantile` of all events at or before it. Every user with an event
    after the cut and two events or more asks once: for the last event, given all before it, those after the cut too (a
    service would have seen them; only the weights have not). So a user who first came after the cut asks as well, and a
    target that nobody had seen before the cut stays in and counts: both happen to a service. On MovieLens 1M with
    min_count 5 that makes 1,209 test queries, the number behind Gusak et al., "Time to Split" (2025, targets "last").

    Validation is the same once more inside the training period: a second cut at the same quantile of the events up to
    the first cut, and each user's last event between the two. The training ends at the second cut.

    Args:
        data: interactions with times.
        quantile: the share of events up to each cut, between 0 and 1.
        targets: types of the events that are asked for; of all where there are none.

    Raises:
        InputError: there are no times, no event lies after a cut, or the data know no such type.
    """
    if data.times is None:
        raise InputError(
            f"{data.name}: the temporal split needs the time of each event and {data.source} has none; "
            "give data with a timestamp column, or use leave-one-out alone"
        )
    if not 0 < quantile < 1:
        raise InputError(f"quantile ({quantile}) must lie between 0 and 1")
    test_cut = _cut(data.times, quantile)
    valid_cut = _cut(data.times[data.times <= test_cut], quantile)
    first, train_stops, valid_stops = data.offsets[:-1], _stops(data, valid_cut), _stops(data, test_cut)
    latest = _latest(data, targets)
    split = Split(
        name="temporal",
        train_stops=train_stops,
        before_test=valid_stops,
        valid=_last_of_each(first, train_stops, latest[valid_stops]),
        test=_last_of_each(first, valid_stops, latest[data.offsets[1:]]),
    )
    for part, queries in (("test", split.test), ("validation", split.valid)):
        if not len(queries):
            raise InputError(
                f"{data.name}: no user has an event after the {part} cut and one before that event; "
                f"lower quantile ({quantile}), or use leave-one-out alone"
            )
    return split


def of_types(data: Interactions, names: Sequence[str]) -> NDArray[np.bool_] | None:
    """Which events are of these types, bool [events]; None where no type is named and so all are.

    Raises:
        InputError: the data know no such type.
    """
    if not names:
        return None
    unknown = [name for name in names if name not in data.type_names]
    if unknown or data.types is None:
        known = ", ".join(data.type_names) or "none; name the column that tells them, as columns.event"
        raise InputError(f"{data.name}: no event is of the type {', '.join(unknown)}; known types: {known}")
    wanted: NDArray[np.bool_] = np.isin(data.types, [data.type_names.index(name) + 1 for name in names])
    return wanted


def spans(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every event inside the ranges `starts[i]:stops[i]`.

    Returns:
        The row i of each event and its position, both int64 [sum of the lengths], in order.
    """
    lengths = stops - starts
    rows = np.repeat(np.arange(len(starts)), lengths)
    begins = np.cumsum(lengths) - lengths
    return rows, np.arange(len(rows)) + (starts - begins)[rows]


def _cut(times: NDArray[np.int64], quantile: float) -> np.int64:
    return np.int64(np.quantile(times, quantile, method="inverted_cdf"))


def _stops(data: Interactions, cut: np.int64) -> NDArray[np.int64]:
    assert data.times is not None
    first, end = data.offsets[:-1], data.offsets[1:]
    until = np.concatenate([np.zeros(1, np.int64), np.cumsum(data.times <= cut, dtype=np.int64)])
    stops: NDArray[np.int64] = first + until[end] - until[first]
    return stops


def _last_of_each(first: NDArray[np.int64], begins: NDArray[np.int64], last: NDArray[np.int64]) -> Queries:
    asks = (last >= begins) & (last > first)
    return Queries(first[asks], last[asks], last[asks])


def _latest(data: Interactions, targets: Sequence[str]) -> NDArray[np.int64]:
    """For each event, and one past the last, the latest event before it that may be asked for; -1 where there is none."""
    events = np.arange(data.events)
    chosen = of_types(data, targets)
    before = np.maximum.accumulate(events if chosen is None else np.where(chosen, events, -1))
    return np.concatenate([[-1], before])
