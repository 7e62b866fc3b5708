"""What lists are like besides hitting: how much of the catalogue they show, how well known, how alike.

Lists are int32 [n, k], best first, with 0 where nothing more could be given. Means are over lists, given one by one so that
they have intervals; what is of all lists together is a number.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from headwise_recsys.baselines import user_items
from headwise_recsys.interactions import Interactions
from headwise_recsys.metrics import Floats
from headwise_recsys.splits import Queries, spans

Lists = NDArray[np.int32]
BLOCK = 256  # lists whose users are held at once


@dataclass(frozen=True, eq=False)
class Known:
    """What the training events tell of every item.

    Attributes:
        events: how often each was chosen, int64 [V + 1].
        users: by how many users, int64 [V + 1].
        people: of how many users there are events.
        directions: of each item in the space of users, [V + 1, users] of length 1, or 0 where nobody chose it.
    """

    events: NDArray[np.int64]
    users: NDArray[np.int64]
    people: int
    directions: sparse.csr_array


def known(data: Interactions, stops: NDArray[np.int64]) -> Known:
    """Count the events `offsets[u]:stops[u]` of every user."""
    _, events = spans(data.offsets[:-1], stops)
    chosen = user_items(data, stops)
    users = chosen.sum(axis=0)
    directions = chosen.multiply(1 / np.sqrt(np.maximum(users, 1))).T.tocsr().astype(np.float32)
    return Known(
        events=np.bincount(data.items[events], minlength=data.item_count + 1),
        users=users.astype(np.int64),
        people=int((stops > data.offsets[:-1]).sum()),
        directions=directions,
    )


def coverage(lists: Lists, item_count: int) -> float:
    """Share of the catalogue that is in some list (Ge et al. 2010, catalogue coverage)."""
    return len(np.setdiff1d(lists, [0])) / item_count


def gini(lists: Lists, item_count: int) -> float:
    """How unevenly the places in all lists fall on the items: 0 all alike, near 1 the same few (Adomavicius and Kwon 2012)."""
    given = np.sort(np.bincount(lists.ravel(), minlength=item_count + 1)[1:])
    weights = 2 * np.arange(1, item_count + 1) - item_count - 1
    return float(weights @ given / (item_count * given.sum()))


def novelty(lists: Lists, known: Known) -> Floats:
    """Mean self-information of each list in bits, -log2 of the share of users who chose the item (Zhou et al. 2010).

    Departing from the paper, one user more is counted as having chosen everything: an item that nobody chose is finite.
    """
    return _mean(lists, -np.log2((known.users + 1) / (known.people + 1)))


def popularity(lists: Lists, known: Known) -> Floats:
    """Mean number of training events of each list's items: ARP (Yin et al. 2012)."""
    return _mean(lists, known.events.astype(np.float64))


def history_popularity(data: Interactions, queries: Queries, known: Known) -> float:
    """Mean over the queries of the mean number of training events of the history's items.

    Lists that are more popular than the histories they were made from show a bias (Abdollahpouri et al. 2019).
    """
    rows, events = spans(queries.starts, queries.stops)
    sums = np.bincount(rows, known.events[data.items[events]], minlength=len(queries))
    return float((sums / np.maximum(queries.stops - queries.starts, 1)).mean())


def distance(lists: Lists, known: Known) -> Floats:
    """How little the items of each list have to do with each other: intra-list distance (Ziegler et al. 2005).

    The mean over pairs of 1 - cosine of the items' users in the training events; 0 for lists of fewer than two items.
    Items without events are as far from each other as can be.
    """
    return np.concatenate([_distance(lists[a : a + BLOCK], known) for a in range(0, len(lists), BLOCK)])


def share_by_popularity(items: NDArray[np.integer], known: Known) -> Floats:
    """How much of `items` (of lists, or targets) falls on the 1, 2, ... V most popular items, float64 [V]."""
    order = np.argsort(-known.events[1:], kind="stable") + 1
    given = np.bincount(items[items > 0].ravel(), minlength=len(known.events))
    shares: Floats = np.cumsum(given[order]) / max(given.sum(), 1)
    return shares


def _mean(lists: Lists, values: Floats) -> Floats:
    real = lists > 0
    means: Floats = (values[lists] * real).sum(axis=1) / np.maximum(real.sum(axis=1), 1)
    return means


def _distance(lists: Lists, known: Known) -> Floats:
    # The cosines of all pairs are what the squared length of the sum has more than the single squared lengths.
    rows, places = np.nonzero(lists)
    items = lists[rows, places]
    shape = len(lists), len(known.events)
    holds = sparse.csr_array((np.ones(len(rows), np.float32), (rows, items)), shape=shape)
    sums = holds @ known.directions
    sums.data **= 2
    singles = holds @ (known.users > 0).astype(np.float64)
    size = np.bincount(rows, minlength=len(lists))
    pairs = size * (size - 1)
    return np.where(pairs > 0, 1 - (sums.sum(axis=1) - singles) / np.maximum(pairs, 1), 0.0)
