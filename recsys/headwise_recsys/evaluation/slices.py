"""For whom a recommender works: queries by how well known their target is, and by how long their history is."""

import numpy as np
from numpy.typing import NDArray

from headwise_recsys.interactions import Interactions
from headwise_recsys.splits import Queries

Mask = NDArray[np.bool_]

HEAD = 0.2  # share of the items that were chosen at all


def by_popularity(data: Interactions, queries: Queries, events: NDArray[np.int64]) -> dict[str, Mask]:
    """Queries whose target is of the head, of the tail, or new: without a training event.

    The head is the fifth of the items that were chosen most often; the rest of those that were chosen is the tail (Park and
    Tuzhilin 2008).

    Args:
        data: what the queries point into.
        queries: n of them.
        events: of each item in training, int64 [V + 1].

    Returns:
        A mask [n] for each part that has queries.
    """
    order = np.argsort(-events, kind="stable")
    head = np.zeros(len(events), bool)
    head[order[: int(np.ceil(HEAD * (events > 0).sum()))]] = True
    targets = data.items[queries.targets]
    new = events[targets] == 0
    parts = {"head": head[targets], "tail": ~head[targets] & ~new, "new": new}
    return {name: mask for name, mask in parts.items() if mask.any()}


def by_history(queries: Queries, parts: int = 4) -> dict[str, Mask]:
    """Queries by the length of their history, in parts of about as many queries each; fewer where lengths are few.

    Returns:
        A mask [n] for each part, by its shortest and longest history, such as "19-37".
    """
    lengths = queries.stops - queries.starts
    shares = np.arange(1, parts) / parts
    edges = np.unique(np.quantile(lengths, shares, method="inverted_cdf"))
    part = np.searchsorted(edges, lengths)  # an edge belongs to the part below it
    masks = [part == number for number in range(len(edges) + 1)]
    return {_between(lengths[mask]): mask for mask in masks if mask.any()}


def _between(lengths: NDArray[np.int64]) -> str:
    low, high = lengths.min(), lengths.max()
    return f"{low}" if low == high else f"{low}-{high}"
