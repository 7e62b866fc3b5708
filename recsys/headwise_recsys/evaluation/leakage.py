"""What would make a figure too good: training on what is asked, knowing the future, or recommending what was seen."""

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError
from headwise_recsys.evaluation.beyond_accuracy import Lists
from headwise_recsys.interactions import Interactions
from headwise_recsys.splits import Queries, Split, spans


def leak(data: Interactions, train_stops: NDArray[np.int64], queries: Queries, *, in_time: bool) -> str:
    """Why whoever trained on these events already knows what the queries ask; empty where nothing leaked.

    Args:
        data: what the queries point into.
        train_stops: int64 [users]; user u was trained on up to here.
        queries: what is asked.
        in_time: whether nobody's events after the first target may be trained on, as in the temporal split.
    """
    users = np.searchsorted(data.offsets, queries.targets, side="right") - 1
    ahead = queries.stops > queries.targets
    if ahead.any():
        return f"{_some(ahead)} histories hold their target or what came after it"
    foreign = queries.starts < data.offsets[users]
    if foreign.any():
        return f"{_some(foreign)} histories begin among another user's events"
    trained = queries.targets < train_stops[users]
    if trained.any():
        return f"{_some(trained)} targets were trained on"
    if in_time:
        assert data.times is not None, "a temporal split has times"
        _, events = spans(data.offsets[:-1], train_stops)
        late = data.times[events] >= data.times[queries.targets].min()
        if late.any():
            return f"{_some(late)} training events are not older than the first event that is asked for"
    return ""


def check_split(data: Interactions, split: Split) -> None:
    """A split must not ask for what it trains on, nor be chosen on what it is tested on.

    Raises:
        InputError: it does.
    """
    parts = (
        ("test", split.train_stops, split.test),
        ("test", split.before_test, split.test),
        ("validation", split.train_stops, split.valid),
    )
    for part, stops, queries in parts:
        reason = leak(data, stops, queries, in_time=split.name == "temporal")
        if reason:
            raise InputError(f"{data.name}: the {part} part of the {split.name} split leaks: {reason}; mend the split")
    both = np.isin(split.valid.targets, split.test.targets)
    if both.any():
        raise InputError(
            f"{data.name}: the {split.name} split leaks: {_some(both)} validation targets are test targets; mend the split"
        )


def seen_again(lists: Lists, data: Interactions, queries: Queries) -> int:
    """How many lists hold an item of their own history."""
    width = data.item_count + 1
    query, event = spans(queries.starts, queries.stops)
    seen = query * width + data.items[event]
    given = np.arange(len(lists))[:, None] * width + lists
    return int(np.isin(given, seen).any(axis=1).sum())


def _some(mask: NDArray[np.bool_]) -> str:
    return f"{mask.sum():,} of {len(mask):,}"
