"""What is known beside the items of histories, as arrays: when and what the events were, whose, and when it is asked."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwise_recsys.interactions import Interactions
from headwise_recsys.splits import Queries
from headwise_recsys.user_rows import rows

EACH: Final = ("times", "types")  # what there is of each item of a history; anything else there is once


def of_tokens(
    data: Interactions, events: NDArray[np.int64], segment: NDArray[np.int64], names: Sequence[str]
) -> dict[str, Tensor]:
    """For training, what is known of each token: `at`, the time of the event that came next; `types`, what was done;
    `user`, the row of each history's user, in the order of segments [rows, segments, size].

    Args:
        data: the events.
        events: [rows, time] which one each token is, -1 where there is none.
        segment: [rows, time] which history of its row each belongs to, from 1.
        names: what to tell.
    """
    real = events >= 0
    told = {}
    if "at" in names:
        told["at"] = torch.from_numpy(np.where(real, _times(data)[events + 1], 0))
    if "types" in names:
        told["types"] = _types(data, events)
    if "user" in names:
        users = np.zeros((len(events), int(segment.max()) + 1), np.int64)
        np.put_along_axis(users, segment, np.where(real, _users(data, events), 0), axis=1)
        told["user"] = torch.from_numpy(rows(data.user_features, users[:, 1:].ravel())).unflatten(0, users[:, 1:].shape)
    return told


def of_histories(
    data: Interactions, queries: Queries, events: NDArray[np.int64], names: Sequence[str]
) -> dict[str, Tensor]:
    """For asking, what is known of each history: `times` and `types` of its events; `at`, when the event that is asked for was;
    `user`, the row of whoever asks [queries, size].

    Args:
        data: the events.
        queries: one a row.
        events: [rows, time] the last of each history, -1 where there is none.
        names: what to tell, in this order.
    """
    made: dict[str, Callable[[], Tensor]] = {
        "times": lambda: torch.from_numpy(np.where(events >= 0, _times(data)[events], 0)),
        "at": lambda: torch.from_numpy(np.array(_times(data)[queries.targets])),
        "types": lambda: _types(data, events),
        "user": lambda: torch.from_numpy(rows(data.user_features, _users(data, queries.targets))),
    }
    return {name: made[name]() for name in names}


def _users(data: Interactions, events: NDArray[np.int64]) -> NDArray[np.int64]:
    # From 1: offsets are where each user begins.
    return np.searchsorted(data.offsets, events, side="right")


def _times(data: Interactions) -> NDArray[np.int64]:
    assert data.times is not None, "a model that reads times is not built for data without"
    return data.times


def _types(data: Interactions, events: NDArray[np.int64]) -> Tensor:
    assert data.types is not None, "a model that reads types is not built for data without"
    return torch.from_numpy(np.where(events >= 0, data.types[events], 0).astype(np.int64))
