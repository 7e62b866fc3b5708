"""What a scorer answered to every query: its lists, and where the targets stood."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwise_recsys.interactions import Interactions
from headwise_recsys.metrics import Floats, Scorer, at_once, eligible, hit_rate, ndcg, places, reciprocal_rank
from headwise_recsys.splits import Queries


@dataclass(frozen=True, eq=False)
class Answers:
    """The lists of many queries.

    Attributes:
        items: int32 [n, depth], best first; 0 where nothing more could be given.
        best: rank of each target if every tie fell in its favour, float64 [n]; infinite where it was not given.
        worst: its rank if every tie fell against it.
    """

    items: NDArray[np.int32]
    best: Floats
    worst: Floats

    @property
    def ranks(self) -> Floats:
        """Mean rank over all orders of the ties, float64 [n]."""
        return (self.best + self.worst) / 2


def answer(scorer: Scorer, data: Interactions, queries: Queries, *, depth: int, batch: int = 256) -> Answers:
    """Ask a scorer for its `depth` best items, and rank every target in the whole catalogue.

    Args:
        scorer: gives scores [n, V + 1] for n queries.
        data: what the queries point into.
        queries: one target each.
        depth: items of a list.
        batch: queries that are scored at once, at most; see `at_once`.
    """
    batches = queries.batches(at_once(data.item_count, batch))
    parts = [_answered(eligible(scorer(data, part), data, part), data, part, depth) for part in batches]
    return Answers(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def per_query(ranks: Floats, cutoffs: Sequence[int]) -> dict[str, Floats]:
    """Each metric of each query, float64 [n], by its name: `hr_K` and `ndcg_K` for each cutoff, and `mrr_K` for the last.

    A rank beyond the last cutoff counts as a miss everywhere, so that lists of that length suffice.
    """
    values = {f"hr_{k}": hit_rate(ranks, k) for k in cutoffs} | {f"ndcg_{k}": ndcg(ranks, k) for k in cutoffs}
    last = cutoffs[-1]
    return values | {f"mrr_{last}": np.where(ranks <= last, reciprocal_rank(ranks), 0.0)}


def _answered(
    scores: NDArray[np.floating], data: Interactions, queries: Queries, depth: int
) -> tuple[NDArray[np.int32], Floats, Floats]:
    return _top(scores, min(depth, data.item_count)), *places(scores, data.items[queries.targets])


def _top(scores: NDArray[np.floating], depth: int) -> NDArray[np.int32]:
    # NaN sorts last; equal scores stand in the order of the catalogue.
    some = np.sort(np.argpartition(-scores, depth - 1, axis=1)[:, :depth], axis=1)
    found = np.take_along_axis(scores, some, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    items = np.where(np.isnan(found), 0, some)
    return np.take_along_axis(items, order, axis=1).astype(np.int32)
