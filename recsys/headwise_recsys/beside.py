"""What a request says beside its history, as the graph takes it: when the items were chosen, when it is asked. NumPy alone."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from headwise.errors import InputError
from headwise_recsys.schemas import RecommendationRequest


@dataclass(frozen=True)
class Beside:
    """What is known beside one history.

    Attributes:
        times: when each item was chosen, in seconds; empty for a model that does not look at them.
        at: when it is asked, in seconds, likewise.
    """

    times: Sequence[int] = ()
    at: int = 0

    def of(self, places: Sequence[int]) -> "Beside":
        """The same of some items of the history."""
        return replace(self, times=[self.times[place] for place in places if self.times])


class Reading:
    """What a model reads beside a history.

    Args:
        settings: of the model's card.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.timed = bool(settings.get("timed"))  # whether it looks at the times of events
        self.query_time = bool(settings.get("query_time"))  # whether it knows when it is asked
        told = {"times": self.timed, "at": self.query_time}
        self.inputs = tuple(name for name, reads in told.items() if reads)

    def read(self, request: RecommendationRequest) -> Beside:
        """What a request says, of every item of its history.

        A request that does not say when it is asked is asked now, or when its last item was chosen if a client's clock is ahead.

        Raises:
            InputError: something that the model reads is missing, does not fit the history, or cannot be.
        """
        if not self.timed:
            return Beside()
        if request.times is None or len(request.times) != len(request.history):
            given = "none" if request.times is None else str(len(request.times))
            raise InputError(
                f"this model looks at when items were chosen: times needs a number for each of the {len(request.history)} "
                f"items of history, it has {given}"
            )
        times = [int(when // 1) for when in request.times]
        if not self.query_time:
            return Beside(times)
        last = times[-1]
        at = max(int(time.time()), last) if request.at is None else int(request.at // 1)
        if at < last:
            raise InputError(
                f"at ({request.at:.15g}) is before the last item of history was chosen ({request.times[-1]:.15g}): give the "
                "time at which it is asked, in seconds since 1970, or leave it out for now"
            )
        return Beside(times, at)

    def arrays(self, known: Sequence[Beside]) -> dict[str, npt.NDArray[np.generic]]:
        """The inputs of the graph for a batch."""
        made = {"times": padded([each.times for each in known]), "at": np.array([each.at for each in known])}
        return {name: made[name] for name in self.inputs}

    def example(self, items: int) -> dict[str, Any]:
        """What a request for a history of so many items may say."""
        times = [1_700_000_000 + 60 * place for place in range(items)]
        told = {"times": times, "at": times[-1] + 600}
        return {name: told[name] for name in self.inputs}

    def longest(self, items: int) -> Beside:
        """Something of every kind for a history of so many items."""
        return Beside([0] * items)


def padded(rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Rows of numbers as one array, padded on the right with 0 to the longest, and to one column at least."""
    grid = np.zeros((len(rows), max(1, *map(len, rows))), np.int64)
    for line, row in zip(grid, rows, strict=True):
        line[: len(row)] = row
    return grid
