"""How sure a figure is, and whether two models that were asked the same really differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

BLOCK = 1 << 20  # random signs that are drawn at once


@dataclass(frozen=True)
class Comparison:
    """How one scorer differs from another on the same queries.

    Attributes:
        difference: mean of the first less mean of the second.
        low: lower end of its 95 % interval.
        high: upper end.
        p: how often scorers that do not differ would differ as much by chance.
    """

    difference: float
    low: float
    high: float
    p: float


def compare(first: Floats, second: Floats) -> Comparison:
    """The difference of two means over the same queries, with its interval and the paired test.

    Args:
        first: one number a query, float64 [n], for instance `ndcg(ranks, 10)`.
        second: of another scorer, the same queries in the same order.

    Raises:
        ValueError: they are not of one length.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"first has {len(first)} values, second has {len(second)}: a paired test needs the same queries"
        )
    differences = first - second
    low, high = interval(differences)
    return Comparison(float(differences.mean()), low, high, randomisation(differences))


def randomisation(differences: Floats, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of the paired randomisation test (Fisher 1935; Smucker et al. 2007).

    Were the two scorers alike, each query's difference could as well have had the other sign: p is the share of sign
    patterns whose sum is at least as far from 0 as the one that was seen. Where there are few, all are tried; otherwise
    some are drawn and the one seen counts among them, so that p is never 0 (Phipson and Smyth 2010).

    Args:
        differences: one a query, float64 [n].
        resamples: sign patterns that are tried, at most.
        seed: the same seed gives the same p.
    """
    moving = differences[differences != 0]  # the sign of 0 changes nothing
    seen = abs(moving.sum()) * (1 - 1e-12)  # the same sum in another order differs by rounding
    if 2 ** min(len(moving), 64) <= resamples:
        patterns = np.arange(2 ** len(moving))[:, None] >> np.arange(len(moving)) & 1
        return float((abs((1 - 2 * patterns) @ moving) >= seen).mean())
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK // len(moving))
    extreme = 0
    for start in range(0, resamples, block):
        signs = generator.integers(0, 2, (min(block, resamples - start), len(moving)), dtype=np.int8)
        extreme += int((abs(moving.sum() - 2 * (signs @ moving)) >= seen).sum())
    return (1 + extreme) / (1 + resamples)


def holm(p: Sequence[float]) -> list[float]:
    """p-values of one family of tests, corrected for there being many (Holm 1979).

    Those below 0.05 are all true with a probability of 95 %, whatever depends on what: the k-th smallest of m is multiplied
    by m - k + 1, and none falls below one before it.
    """
    order = np.argsort(p, kind="stable")
    stepped = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return [float(value) for value in corrected]


def interval(values: Floats, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over queries (Efron 1979); `intervals` of one column."""
    [(low, high)] = intervals(values[:, None], level, resamples, seed)
    return float(low), float(high)


def intervals(values: Floats, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> NDArray[np.float64]:
    """Percentile bootstrap intervals of means over queries (Efron 1979), several figures of the same queries at once.

    Args:
        values: [n, figures], one row a query.
        level: share of the resampled means inside the interval.
        resamples: how often the queries are drawn again, with replacement.
        seed: the same seed gives the same intervals.

    Returns:
        Lower and upper ends, [figures, 2].
    """
    generator = np.random.default_rng(seed)
    count = len(values)
    # What is drawn matters only by how often.
    drawn = (np.bincount(generator.integers(count, size=count), minlength=count) for _ in range(resamples))
    means = np.stack([often @ values for often in drawn]) / count
    ends: NDArray[np.float64] = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0).T
    return ends
