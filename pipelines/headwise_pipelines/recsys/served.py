"""A recommender folder, as it is served, answering the queries of a data set in the data's own item numbers."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError
from headwise_recsys.beside import Beside
from headwise_recsys.evaluation.answers import Answers
from headwise_recsys.ids import Id
from headwise_recsys.interactions import Interactions
from headwise_recsys.metrics import Floats
from headwise_recsys.service import Ranking, load
from headwise_recsys.splits import Queries
from headwise_recsys.user_rows import told

BATCH = 1024  # queries whose histories are lists at once


class Served:
    """A model folder beside a data set.

    The catalogue is the model's: items of the data that it does not know are left out of histories and are misses as
    targets; items of its own that the data do not know take their place in a list and are 0 there.

    Args:
        folder: of the model.
        data: whose items are matched with the model's by their ids.
        threads: of one run of the graph; all cores by default.

    Raises:
        InputError: the model knows none of the data's items.
    """

    def __init__(self, folder: Path, data: Interactions, *, threads: int | None = None) -> None:
        self._service = load(folder, threads=threads or len(os.sched_getaffinity(0)))
        self._numbers = np.array([0, *self._service.numbers(data.item_ids)])  # the model's number of each item
        if not self._numbers.any():
            raise InputError(f"{data.name}: the model knows none of its {data.item_count} items; is it the right data?")
        self._items = np.zeros(self._service.catalogue + 1, np.int32)  # the data's number of each of the model's items
        self._items[self._numbers] = np.arange(len(self._numbers))
        self._items[0] = 0
        self.window, self.repeats = self._service.window, self._service.repeats
        self.ids = self._service.ids  # own ids of the model's items
        self.query_time = self._service.reads.query_time
        self.known = float((self._numbers[1:] > 0).mean())  # share of the data's items

    def answers(self, data: Interactions, queries: Queries, *, depth: int) -> Answers:
        """The lists that the service gives, and the places of the targets in them; infinite where they are not."""
        depth = min(depth, self._service.max_k)
        parts = list(queries.batches(BATCH))
        answered = [
            self._service.rank_many(self._histories(data, part), depth, beside=self._beside(data, part))
            for part in parts
        ]
        placed = [
            _placed(rankings, self._numbers[data.items[part.targets]], depth)
            for rankings, part in zip(answered, parts, strict=True)
        ]
        numbers, best, worst = (np.concatenate(column) for column in zip(*placed, strict=True))
        return Answers(self._items[numbers], best, worst)

    def sampled_ranks(self, data: Interactions, queries: Queries, drawn: NDArray[np.int32]) -> Floats:
        """Rank of each target among its drawn items, by a list of these alone; infinite where the model does not know it."""
        targets = data.items[queries.targets]
        among = self._numbers[np.concatenate([targets[:, None], drawn], axis=1)]
        allow = [row[row > 0].tolist() for row in among]
        histories, beside = self._histories(data, queries), self._beside(data, queries)
        rankings = self._service.rank_many(histories, among.shape[1], allow=allow, beside=beside)
        _, best, worst = _placed(rankings, among[:, 0], among.shape[1])
        return (best + worst) / 2

    def recommended(
        self, data: Interactions, queries: Queries, *, k: int, at: int
    ) -> list[tuple[list[Id], NDArray[np.float32]]]:
        """Ids and scores of the k best next items at a moment, or at the last event of a history if that is later.

        Args:
            data: what the queries point into.
            queries: histories; their targets are not looked at.
            k: items of a list, at most.
            at: when it is asked, in seconds.

        Raises:
            InputError: k is out of bounds, or the data lack something that the model reads.
        """
        moments = np.full(len(queries), at) if data.times is None else np.maximum(at, data.times[queries.stops - 1])
        beside = self._beside(data, queries, moments)
        rankings = self._service.rank_many(self._histories(data, queries), k, beside=beside)
        return [([self.ids[item - 1] for item in items.tolist()], scores) for items, scores in rankings]

    def _histories(self, data: Interactions, queries: Queries) -> list[list[int]]:
        return [[number for number in known.tolist() if number] for _, known in self._known(data, queries)]

    def _beside(self, data: Interactions, queries: Queries, moments: NDArray[np.int64] | None = None) -> list[Beside]:
        if not self._service.reads.inputs:
            return []
        reads, none = self._service.reads, np.zeros(data.events, np.int64)
        if reads.timed and data.times is None:
            raise InputError(f"{data.name}: the model looks at times of events, and {data.source} has none")
        if reads.types and data.types is None:
            raise InputError(
                f"{data.name}: the model looks at types of events, and {data.source} was read without them"
            )
        times = none if data.times is None else data.times
        numbers = np.array([0, *(reads.types.get(name, 0) for name in data.type_names)])
        types = none if data.types is None else data.types
        whose = np.searchsorted(data.offsets, queries.targets, side="right").tolist()
        names = {each.name for each in reads.features}
        known_of = [each for each in data.user_features if each.name in names]
        users = [reads.user(told(known_of, user)) for user in whose]
        asked = (times[queries.targets] if moments is None else moments).tolist()
        return [
            Beside(times[span][known > 0].tolist(), moment, numbers[types[span][known > 0]].tolist(), user)
            for (span, known), moment, user in zip(self._known(data, queries), asked, users, strict=True)
        ]

    def _known(self, data: Interactions, queries: Queries) -> Iterator[tuple[slice, NDArray[np.int64]]]:
        for start, stop in zip(queries.starts.tolist(), queries.stops.tolist(), strict=True):
            yield slice(start, stop), self._numbers[data.items[start:stop]]


def _placed(
    rankings: Sequence[Ranking], targets: NDArray[np.integer], depth: int
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Lists [n, depth] in the model's numbers, and the best and worst place of each target among equal scores."""
    numbers = np.zeros((len(rankings), depth), np.int64)
    scores = np.full((len(rankings), depth), np.nan, np.float32)
    for row, (items, values) in enumerate(rankings):
        numbers[row, : len(items)] = items
        scores[row, : len(items)] = values
    mine = np.where(numbers == targets[:, None], scores, np.nan)
    own = np.max(mine, axis=1, initial=-np.inf, where=~np.isnan(mine))[:, None]
    found = np.isfinite(own[:, 0])
    better, equal = (scores > own).sum(axis=1), (scores == own).sum(axis=1)
    return numbers, np.where(found, better + 1, np.inf), np.where(found, better + equal, np.inf)
