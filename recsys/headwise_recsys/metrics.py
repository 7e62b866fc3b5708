"""How well a scorer ranks the next item: the whole catalogue, the whole history removed, ties at their mean rank.

No metric here is sampled: ranking the target against a hundred random items orders models differently (Krichene and
Rendle, "On Sampled Metrics for Item Recommendation", 2020).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError
from headwise_recsys.interactions import Interactions
from headwise_recsys.splits import Queries, spans

SCORES = 1 << 26  # numbers that are held at once, 256 MB

Floats: TypeAlias = NDArray[np.float64]

Scorer: TypeAlias = Callable[[Interactions, Queries], NDArray[np.float32]]
"""Scores [n, V + 1] of every item for n queries, higher is better; column 0 is padding and ignored."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The rank of every query's target.

    Attributes:
        ranks: float64 [n], 1 is best; infinite where the target was in its own history and therefore could not be given.
    """

    ranks: Floats

    @property
    def repeats(self) -> int:
        """How many targets were in their own history: misses, however good the scorer."""
        return int(np.isinf(self.ranks).sum())

    def metrics(self, cutoffs: Sequence[int] = (10,)) -> dict[str, float]:
        """Means over all queries: `hr_K` and `ndcg_K` for each cutoff K, `mrr`, and `repeats`, the share of repeats."""
        values = {}
        for k in cutoffs:
            values[f"hr_{k}"] = hit_rate(self.ranks, k)
            values[f"ndcg_{k}"] = ndcg(self.ranks, k)
        values["mrr"] = reciprocal_rank(self.ranks)
        values["repeats"] = np.isinf(self.ranks)
        return {name: float(value.mean()) for name, value in values.items()}


def evaluate(scorer: Scorer, data: Interactions, queries: Queries, batch: int = 256) -> Evaluation:
    """Rank every query's target among all items that may be given.

    Args:
        scorer: gives scores [n, V + 1] for n queries.
        data: what the queries point into.
        queries: one target each.
        batch: how many queries are scored at once, at most; see `at_once`.

    Raises:
        InputError: there are no queries.
        ValueError: a target's own event lies inside its history (a leak), or the scores are NaN or of the wrong shape.
    """
    if not len(queries):
        raise InputError(f"{data.name}: no queries to evaluate; users need more events")
    leaks = (queries.starts <= queries.targets) & (queries.targets < queries.stops)
    if leaks.any():
        raise ValueError(
            f"leak: {leaks.sum()} of {len(queries)} targets lie inside the history they are predicted from"
        )
    return Evaluation(
        np.concatenate(
            [ranks(scorer(data, part), data, part) for part in queries.batches(at_once(data.item_count, batch))]
        )
    )


def at_once(items: int, most: int) -> int:
    """How many queries, `most` at most, are scored together, so that a large catalogue's scores take 256 MB at a time."""
    return max(1, min(most, SCORES // (items + 1)))


def ranks(scores: NDArray[np.floating], data: Interactions, queries: Queries) -> Floats:
    """Rank of each target among the items that may be given: 1 + better ones + half of the equal ones.

    The mean over all orders of the ties, so that a constant scorer ranks in the middle, not first. A target that the
    history holds ranks at infinity, so the query is a miss, unless its items may come again (`queries.repeats`).

    Args:
        scores: [n, V + 1], higher is better; column 0 is ignored. Not changed.
        data: what the queries point into.
        queries: n of them.

    Returns:
        float64 [n].

    Raises:
        ValueError: the scores have another shape or hold NaN.
    """
    best, worst = places(eligible(scores, data, queries), data.items[queries.targets])
    return (best + worst) / 2


def eligible(scores: NDArray[np.floating], data: Interactions, queries: Queries) -> NDArray[np.floating]:
    """A copy of the scores [n, V + 1] with NaN for what cannot be given: padding, and the items of each history.

    Where items may come again (`queries.repeats`), those of the history stay.

    Raises:
        ValueError: the scores have another shape or hold NaN.
    """
    needed = (len(queries), data.item_count + 1)
    if scores.shape != needed:
        raise ValueError(f"scores have shape {scores.shape}, one row a query and one column an item make {needed}")
    scores = np.array(scores)
    scores[:, 0] = 0
    if np.isnan(scores.min()):
        raise ValueError(f"scores of {np.isnan(scores).any(axis=1).sum()} of {len(queries)} queries hold NaN")
    if not queries.repeats:
        query, event = spans(queries.starts, queries.stops)
        scores[query, data.items[event]] = np.nan
    scores[:, 0] = np.nan
    return scores


def places(scores: NDArray[np.floating], targets: NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Rank of each target if every tie fell in its favour, and if every tie fell against it.

    Args:
        scores: [n, V + 1], NaN for what cannot be given.
        targets: [n], one column of each row.

    Returns:
        The best and the worst rank, float64 [n] each; infinite where the target cannot be given.
    """
    mine = np.take_along_axis(scores, targets[:, None].astype(np.int64), axis=1)
    # NaN is neither greater than nor equal to anything: what is not eligible drops out of both counts.
    better = np.count_nonzero(scores > mine, axis=1)
    equal = np.count_nonzero(scores == mine, axis=1)  # itself, too
    missing = np.isnan(mine[:, 0])
    return np.where(missing, np.inf, better + 1), np.where(missing, np.inf, better + equal)


def hit_rate(ranks: Floats, k: int) -> Floats:
    """1 for each query whose target is among the first k, else 0, float64 [n]; the mean is HR@k."""
    return (ranks <= k).astype(np.float64)


def ndcg(ranks: Floats, k: int) -> Floats:
    """1 / log2(rank + 1) for each query whose target is among the first k, else 0, float64 [n]; the mean is NDCG@k.

    With one target a query the ideal gain is 1. At a tie the rank is a half-integer and enters the formula as it is.
    """
    return np.where(ranks <= k, 1 / np.log2(ranks + 1), 0.0)


def reciprocal_rank(ranks: Floats) -> Floats:
    """1 / rank for each query, float64 [n]; the mean is MRR over the whole catalogue."""
    return 1 / ranks
