"""What a request says beside its history, as the graph takes it: when items were chosen, what was done, when it is asked."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headwise.errors import InputError
from headwise.model_folder import read_table
from headwise_recsys import user_rows
from headwise_recsys.item_features import Feature, Tags, described
from headwise_recsys.schemas import RecommendationRequest

TYPES = "types.json"  # of a model folder: the names of the types of events
USERS = "users.json"  # what the model knows of users, without values of any


@dataclass(frozen=True)
class Beside:
    """What is known beside one history.

    Attributes:
        times: when each item was chosen, in seconds; empty for a model that does not look at them.
        at: when it is asked, in seconds, likewise.
        types: what was done with each item, from 1, 0 where that is unknown; empty for a model that does not tell.
        user: what is known of whoever asks, see `headwise_recsys.user_rows`; empty for a model that does not ask.
    """

    times: Sequence[int] = ()
    at: int = 0
    types: Sequence[int] = ()
    user: Sequence[float] = ()

    def of(self, places: Sequence[int]) -> "Beside":
        """The same of some items of the history."""
        times, types = ([each[place] for place in places if each] for each in (self.times, self.types))
        return replace(self, times=times, types=types)


class Reading:
    """What a model reads beside a history.

    Args:
        settings: of the model's card.
        types: the names of the types of events that it tells apart, none if it does not.
        features: what it knows of users, nothing if it does not.
    """

    def __init__(
        self, settings: Mapping[str, Any], types: Sequence[str] = (), features: Sequence[Feature] = ()
    ) -> None:
        self.timed = bool(settings.get("timed"))  # whether it looks at the times of events
        self.query_time = bool(settings.get("query_time"))  # whether it knows when it is asked
        self.types = {name: number for number, name in enumerate(types, 1)}
        self.features = features
        told = {"times": self.timed, "at": self.query_time, "types": bool(types), "user": bool(features)}
        self.inputs = tuple(name for name, reads in told.items() if reads)

    def read(self, request: RecommendationRequest) -> Beside:
        """What a request says, of every item of its history.

        A request that does not say when it is asked is asked now, or when its last item was chosen if a client's clock is ahead.

        Raises:
            InputError: something that the model reads is missing, does not fit the history, or cannot be.
        """
        times = self._times(request) if self.timed else []
        at = _at(request, times[-1]) if self.query_time else 0
        return Beside(times, at, self._events(request) if self.types else [], self.user(request.user or {}))

    def user(self, given: Mapping[str, Any]) -> Sequence[float]:
        """What the model takes for a user of whom something is known.

        Raises:
            InputError: the model knows nothing of that name, or it is of another kind.
        """
        row: Sequence[float] = user_rows.row(self.features, given).tolist() if self.features else ()
        return row

    def arrays(self, known: Sequence[Beside]) -> dict[str, npt.NDArray[np.generic]]:
        """The inputs of the graph for a batch."""
        made = {
            "times": padded([each.times for each in known]),
            "at": np.array([each.at for each in known]),
            "types": padded([each.types for each in known]),
            "user": np.array([each.user for each in known], np.float32),
        }
        return {name: made[name] for name in self.inputs}

    def example(self, items: int) -> dict[str, Any]:
        """What a request for a history of so many items may say."""
        times = [1_700_000_000 + 60 * place for place in range(items)]
        told = {"times": times, "at": times[-1] + 600}
        events = {"events": [next(iter(self.types))] * items} if self.types else {}
        user = {"user": {each.name: _instance(each) for each in self.features}} if self.features else {}
        return {name: told[name] for name in self.inputs if name in told} | events | user

    def longest(self, items: int) -> Beside:
        """Something of every kind for a history of so many items."""
        return Beside([0] * items, types=[0] * items, user=self.user({}))

    def _times(self, request: RecommendationRequest) -> list[int]:
        if request.times is None or len(request.times) != len(request.history):
            raise _misfit("looks at when items were chosen: times needs a number", request, request.times)
        return [int(when // 1) for when in request.times]

    def _events(self, request: RecommendationRequest) -> list[int]:
        if request.events is None or len(request.events) != len(request.history):
            raise _misfit("looks at what was done: events needs a type", request, request.events)
        unknown = [name for name in dict.fromkeys(request.events) if name not in self.types]
        if unknown and request.on_unknown == "error":
            raise InputError(
                f"events: {', '.join(map(repr, unknown))} is no type of event that this model knows, which are "
                f'{", ".join(self.types)}; correct it, or send "on_unknown": "ignore"'
            )
        return [self.types.get(name, 0) for name in request.events]


def _instance(feature: Feature) -> Any:
    if isinstance(feature, Tags):
        return feature.vocabulary[0]
    return round(feature.mean[0], 1) if len(feature.mean) == 1 else list(feature.mean)


def _at(request: RecommendationRequest, last: int) -> int:
    if request.at is None:
        return max(int(time.time()), last)
    if request.at < last:
        raise InputError(
            f"at ({request.at:.15g}) is before the last item of history was chosen ({last}): give the time at which it is "
            "asked, in seconds since 1970, or leave it out for now"
        )
    return int(request.at // 1)


def _misfit(what: str, request: RecommendationRequest, given: Sequence[object] | None) -> InputError:
    return InputError(
        f"this model {what} for each of the {len(request.history)} items of history, it has "
        f"{'none' if given is None else len(given)}"
    )


def known_of_users(folder: Path) -> tuple[Feature, ...]:
    """What the model of a folder knows of users.

    Raises:
        InputError: the file is missing or damaged.
    """
    facts = read_table(folder / USERS, list[dict[str, Any]])
    return tuple(described(each, np.zeros((1, 1), np.int32)) for each in facts)


def padded(rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Rows of numbers as one array, padded on the right with 0 to the longest, and to one column at least."""
    grid = np.zeros((len(rows), max(1, *map(len, rows))), np.int64)
    for line, row in zip(grid, rows, strict=True):
        line[: len(row)] = row
    return grid
