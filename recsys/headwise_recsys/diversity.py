"""Which of the best items to show together: not all alike, and not too many of a kind. NumPy alone, as answering requests is."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def marginal_relevance(
    scores: NDArray[np.float32], vectors: NDArray[np.float32], k: int, *, diversity: float
) -> NDArray[np.int64]:
    """Chooses by maximal marginal relevance (Carbonell & Goldstein 1998).

    One after another, the item of the largest (1 - diversity) relevance(i) - diversity max_j cos(i, j) over the chosen j. The
    relevance of a candidate is its score on a scale from 0, the worst of them, to 1, the best; the paper's is a cosine already.
    O(k x candidates x width).

    Args:
        scores: [candidates] finite, higher is better.
        vectors: [candidates, width], of which the directions count.
        k: how many to choose.
        diversity: from 0, the order of the scores, to 1, as unlike as can be; the first is always the best.

    Returns:
        Places of the chosen among the candidates, in the order chosen; all candidates where they are no more than `k`. Of equals
        the first.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.where(lengths == 0, 1, lengths)
    span = np.ptp(scores) if len(scores) else 0
    relevance = (scores - scores.min(initial=np.inf)) / (span or 1)
    nearest = np.zeros_like(relevance)  # the first is chosen for its score alone
    left = np.ones(len(scores), bool)
    chosen: list[int] = []
    for _ in range(min(k, len(scores))):
        gain = (1 - diversity) * relevance - diversity * nearest if chosen else relevance
        best = int(np.where(left, gain, -np.inf).argmax())
        left[best] = False
        similar = directions @ directions[best]
        nearest = np.maximum(nearest, similar) if chosen else similar
        chosen.append(best)
    return np.array(chosen, np.int64)


def within_quotas(
    categories: Sequence[Hashable], quotas: Mapping[Hashable, int], k: int, *, otherwise: int | None = None
) -> NDArray[np.int64]:
    """The first `k` candidates that leave no category with more than its quota.

    Of candidates that come best first no other choice within the quotas has a larger sum of scores, since each item is of one
    category (the greedy choice is optimal in a partition matroid; Edmonds 1971).

    Args:
        categories: of each candidate, best first.
        quotas: the most items of a category.
        k: how many to choose.
        otherwise: the most of a category without a quota of its own; any number where None.

    Returns:
        Places of the chosen, in order; fewer than `k` where the quotas leave no more.
    """
    room = dict(quotas)
    chosen: list[int] = []
    for place, category in enumerate(categories):
        if len(chosen) == k:
            break
        left = room.get(category, k if otherwise is None else otherwise)
        if left > 0:
            chosen.append(place)
        room[category] = left - 1
    return np.array(chosen, np.int64)
