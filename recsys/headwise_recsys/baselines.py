"""What a model has to beat: popularity, the last item, item neighbours and EASE, each fitted in seconds on a CPU.

Each is a frozen set of settings; `fit(data, stops)` learns from the events `offsets[u]:stops[u]` of every user, nothing
else, and gives a `Scorer`. On MovieLens 1M (min_count 5, leave-one-out, fitted on the training events alone, the whole
history as query), HR@10 and NDCG@10 of the test queries are

    Popularity()   .0369  .0180
    Markov()       .2144  .1259
    ItemKNN()      .1626  .0860
    EASE()         .2272  .1278
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from headwise.errors import InputError
from headwise_recsys.interactions import Interactions
from headwise_recsys.metrics import Scorer
from headwise_recsys.splits import Queries, spans

DAY = 86_400  # seconds
NEGLIGIBLE = 1e-7  # a weight below float32 resolution beside the last event's weight of 1
BLOCK = 256  # rows of an items x items matrix that are worked on at once
LARGEST = 40_000  # items that EASE takes; it holds items x items in float32, 6.4 GB at this size


@dataclass(frozen=True)
class Popularity:
    """The same items for everybody: how often each occurs in the training events.

    Attributes:
        half_life: in days; an event this much older than the newest training event counts half. None counts all alike.
    """

    half_life: float | None = None

    def fit(self, data: Interactions, stops: NDArray[np.int64]) -> Scorer:
        """A scorer whose scores are (decayed) counts.

        Raises:
            InputError: `half_life` is set and the data has no times.
        """
        _, events = spans(data.offsets[:-1], stops)
        weights = None
        if self.half_life is not None:
            if data.times is None:
                raise InputError(f"{data.name}: half_life needs the time of each event and {data.source} has none")
            times = data.times[events]
            weights = 0.5 ** ((times.max() - times) / (self.half_life * DAY))
        counts = np.bincount(data.items[events], weights, minlength=data.item_count + 1).astype(np.float32)

        def score(data: Interactions, queries: Queries) -> NDArray[np.float32]:
            return np.broadcast_to(counts, (len(queries), len(counts)))

        return score


@dataclass(frozen=True)
class Markov:
    """What followed the last item: a first-order Markov chain that backs off to popularity.

    P(next | last) = (n(last, next) + p(next)) / (n(last) + 1), with p the share of each item in the training events: a
    Dirichlet prior worth one transition. As p < 1, it orders items that followed equally often, or never.
    """

    def fit(self, data: Interactions, stops: NDArray[np.int64]) -> Scorer:
        """A scorer whose scores are probabilities of the next item."""
        users, events = spans(data.offsets[:-1], stops)
        items = data.items[events]
        width = data.item_count + 1
        follows = users[1:] == users[:-1]
        ones = np.ones(follows.sum(), np.float32)
        counts = sparse.csr_array((ones, (items[:-1][follows], items[1:][follows])), shape=(width, width))
        totals = counts.sum(axis=1).astype(np.float32)[:, None] + 1
        prior = (np.bincount(items, minlength=width) / max(len(items), 1)).astype(np.float32)

        def score(data: Interactions, queries: Queries) -> NDArray[np.float32]:
            # Row 0 has no transitions: an empty history gets popularity.
            last = np.where(queries.stops > queries.starts, data.items[queries.stops - 1], 0)
            scores: NDArray[np.float32] = (counts[last].toarray() + prior) / totals[last]
            return scores

        return score


@dataclass(frozen=True)
class ItemKNN:
    """Items that the same users chose: cosine between item columns of the binary user-item matrix (Sarwar et al. 2001).

    Attributes:
        neighbours: how many of its nearest items each item of a history votes for.
        decay: the vote of an event weighs `decay` ** (number of events after it in the history).
    """

    neighbours: int = 20
    decay: float = 0.8

    def fit(self, data: Interactions, stops: NDArray[np.int64]) -> Scorer:
        """A scorer whose scores are sums of weighted cosines."""
        chosen = user_items(data, stops)
        unit = chosen.multiply(1 / np.sqrt(np.maximum(chosen.sum(axis=0), 1, dtype=np.float32))).tocsc()
        blocks = [_nearest(unit, start, self.neighbours) for start in range(0, unit.shape[1], BLOCK)]
        return _similar_to_history(sparse.vstack(blocks, format="csr"), self.decay)


@dataclass(frozen=True)
class EASE:
    """The linear autoencoder without self-similarity (Steck, "Embarrassingly Shallow Autoencoders", 2019, eq. 8).

    With G = X'X of the binary user-item matrix and P = (G + penalty I)^-1, item j scores sum over the history of
    -P[i, j] / P[j, j]. Departing from the paper, events of the history are weighted by recency.

    Attributes:
        penalty: lambda of the paper.
        decay: an event weighs `decay` ** (number of events after it in the history); 1 is the paper's model.
    """

    penalty: float = 500.0
    decay: float = 0.8

    def fit(self, data: Interactions, stops: NDArray[np.int64]) -> Scorer:
        """A scorer; time grows with items cubed and memory with items squared (a second for 3,400 items on one core).

        Raises:
            InputError: there are too many items for a dense matrix.
        """
        if data.item_count > LARGEST:
            raise InputError(
                f"{data.name}: EASE inverts a matrix of items x items and {data.item_count:,} are more than "
                f"{LARGEST:,}; raise min_count, or leave EASE out"
            )
        chosen = user_items(data, stops)
        gram = (chosen.T @ chosen).toarray(order="F")
        gram[np.diag_indices_from(gram)] += self.penalty
        inverse = _inverse(gram)
        inverse /= -np.diag(inverse)
        np.fill_diagonal(inverse, 0)
        return _similar_to_history(inverse, self.decay)


def user_items(data: Interactions, stops: NDArray[np.int64]) -> sparse.csr_array:
    """The binary user-item matrix [users, V + 1] of the events `offsets[u]:stops[u]` of every user: 1 however often."""
    users, events = spans(data.offsets[:-1], stops)
    ones = np.ones(len(events), np.float32)
    matrix = sparse.csr_array((ones, (users, data.items[events])), shape=(data.users, data.item_count + 1))
    matrix.data[:] = 1
    return matrix


def _nearest(unit: sparse.csc_array, start: int, neighbours: int) -> sparse.csr_array:
    cosines = (unit[:, start : start + BLOCK].T @ unit).toarray()
    rows = np.arange(len(cosines))
    cosines[rows, start + rows] = 0
    keep = min(neighbours, cosines.shape[1] - 1)
    nearest = np.argpartition(-cosines, keep, axis=1)[:, :keep]
    values = np.take_along_axis(cosines, nearest, axis=1)
    shape = cosines.shape
    matrix = sparse.csr_array((values.ravel(), (np.repeat(rows, keep), nearest.ravel())), shape=shape)
    matrix.eliminate_zeros()
    return matrix


def _inverse(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    # Cholesky in place, for a positive definite matrix in Fortran order: a third of the work of a general inverse.
    factor, failed = linalg.lapack.spotrf(matrix, lower=True, overwrite_a=True)
    assert not failed, "X'X + penalty I is positive definite"
    lower, failed = linalg.lapack.spotri(factor, lower=True, overwrite_c=True)
    assert not failed, "a Cholesky factor has no zero on its diagonal"
    inverse: NDArray[np.float32] = lower.T  # rows in C order; what is valid is now the upper triangle
    for start in range(0, len(inverse), BLOCK):
        stop = start + BLOCK
        corner = np.triu(inverse[start:stop, start:stop])
        inverse[start:stop, start:stop] = corner + np.triu(corner, 1).T
        inverse[stop:, start:stop] = inverse[start:stop, stop:].T
    return inverse


def _similar_to_history(similarity: sparse.csr_array | NDArray[np.float32], decay: float) -> Scorer:
    def score(data: Interactions, queries: Queries) -> NDArray[np.float32]:
        scores = _weighted_history(data, queries, decay) @ similarity
        dense: NDArray[np.float32] = scores.toarray() if sparse.issparse(scores) else scores
        return dense

    return score


def _weighted_history(data: Interactions, queries: Queries, decay: float) -> sparse.csr_array:
    rows, events = spans(queries.starts, queries.stops)
    weights = decay ** (queries.stops[rows] - 1 - events).astype(np.float64)
    counts = weights > NEGLIGIBLE
    entries = weights[counts].astype(np.float32), (rows[counts], data.items[events[counts]])
    return sparse.csr_array(entries, shape=(len(queries), data.item_count + 1))  # repeats add up
