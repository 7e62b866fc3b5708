"""Ranking a target among a few drawn items: only to compare with papers that did, and always named so.

Such a figure is neither that of the whole catalogue nor in its order: the better of two models by one may be the worse by the
other (Krichene and Rendle, "On Sampled Metrics for Item Recommendation", 2020).
"""

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError
from headwise_recsys.interactions import Interactions
from headwise_recsys.metrics import Floats, Scorer, at_once, hit_rate, ndcg
from headwise_recsys.splits import Queries


def negatives(data: Interactions, queries: Queries, count: int, seed: int = 0) -> NDArray[np.int32]:
    """Items for each query, all different, uniformly from those that are neither its target nor of its history.

    Returns:
        int32 [n, count].

    Raises:
        InputError: some query has fewer than `count` such items.
    """
    generator = np.random.default_rng(seed)
    drawn = np.empty((len(queries), count), np.int32)
    for row, (start, stop, target) in enumerate(zip(queries.starts, queries.stops, queries.targets, strict=True)):
        free = np.ones(data.item_count + 1, bool)
        free[data.items[start:stop]] = False
        free[[0, data.items[target]]] = False
        left = np.flatnonzero(free)
        if len(left) < count:
            raise InputError(
                f"{data.name}: {count} items cannot be drawn for query {row}, only {len(left)} of {data.item_count} are "
                "neither its target nor of its history; draw fewer"
            )
        drawn[row] = generator.choice(left, count, replace=False)
    return drawn


def sampled_ranks(scorer: Scorer, data: Interactions, queries: Queries, drawn: NDArray[np.int32]) -> Floats:
    """Mean rank over ties of each target among its drawn items, float64 [n]."""
    batch = at_once(data.item_count, 256)
    found = []
    for start in range(0, len(queries), batch):
        part = queries[slice(start, start + batch)]
        scores = scorer(data, part)
        mine = np.take_along_axis(scores, data.items[part.targets][:, None].astype(np.int64), axis=1)
        others = np.take_along_axis(scores, drawn[start : start + batch].astype(np.int64), axis=1)
        found.append(1 + (others > mine).sum(axis=1) + (others == mine).sum(axis=1) / 2)
    return np.concatenate(found)


def sampled_metrics(ranks: Floats, count: int, k: int = 10) -> dict[str, float]:
    """HR and NDCG among `count` drawn items and the target, under names that say so: `sampled_100_hr_10`."""
    return {
        f"sampled_{count}_hr_{k}": float(hit_rate(ranks, k).mean()),
        f"sampled_{count}_ndcg_{k}": float(ndcg(ranks, k).mean()),
    }
