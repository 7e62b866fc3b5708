"""What is known beside the items of histories, as arrays: when the events were, when the next one is asked for."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwise_recsys.interactions import Interactions
from headwise_recsys.splits import Queries

EACH: Final = ("times",)  # what there is of each item of a history; anything else there is once


def of_tokens(data: Interactions, events: NDArray[np.int64], names: Sequence[str]) -> dict[str, Tensor]:
    """For training, what is known of each token: `at`, the time of the event that came next.

    Args:
        data: the events.
        events: [rows, time] which one each token is, -1 where there is none.
        names: what to tell.
    """
    real = events >= 0
    told = {}
    if "at" in names:
        assert data.times is not None, "a model that reads times is not built for data without"
        told["at"] = torch.from_numpy(np.where(real, data.times[events + 1], 0))
    return told


def of_histories(
    data: Interactions, queries: Queries, events: NDArray[np.int64], names: Sequence[str]
) -> dict[str, Tensor]:
    """For asking, what is known of each history: `times` of its events, and `at`, the time of the event that is asked for.

    Args:
        data: the events.
        queries: one a row.
        events: [rows, time] the last of each history, -1 where there is none.
        names: what to tell, in this order.
    """
    real = events >= 0
    told = {}
    for name in names:
        assert data.times is not None, "a model that reads times is not built for data without"
        told[name] = np.where(real, data.times[events], 0) if name == "times" else np.array(data.times[queries.targets])
    return {name: torch.from_numpy(values) for name, values in told.items()}
