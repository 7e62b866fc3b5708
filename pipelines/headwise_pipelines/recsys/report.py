"""How good the recommender is, beside what costs nothing to build."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError
from headwise_recsys.baselines import EASE, ItemKNN, Markov, Popularity
from headwise_recsys.interactions import Interactions
from headwise_recsys.metrics import Scorer, evaluate
from headwise_recsys.splits import Split, leave_one_out, temporal

Metrics = Mapping[str, float]


class Baseline(Protocol):
    """What costs nothing to build."""

    def fit(self, data: Interactions, stops: NDArray[np.int64]) -> Scorer:
        """Learn from the events before each user's stop."""


SPLITS: Mapping[str, Callable[..., Split]] = {"leave-one-out": leave_one_out, "temporal": temporal}
BASELINES: Mapping[str, Baseline] = {
    "popularity": Popularity(),
    "recent popularity": Popularity(half_life=1),
    "Markov": Markov(),
    "item-kNN": ItemKNN(),
    "EASE": EASE(),
}
CUTOFFS = (1, 5, 10, 20)
DENSE = 20_000  # items above which EASE, whose model is items x items numbers, is left out


def test_metrics(scorer: Scorer, data: Interactions, split: Split) -> dict[str, float]:
    """HR, NDCG and MRR of a scorer on the test queries: full catalogue, whole history masked."""
    return evaluate(scorer, data, split.test).metrics(CUTOFFS)


def baselines(data: Interactions, split: Split) -> dict[str, Metrics]:
    """The test metrics of every baseline that the data allow."""
    return {name: test_metrics(scorer, data, split) for name, scorer in fitted_baselines(data, split)}


def fitted_baselines(data: Interactions, split: Split) -> Iterator[tuple[str, Scorer]]:
    """Every baseline that the data allow, by name, fitted when its turn comes."""
    for name, baseline in BASELINES.items():
        if not (name == "recent popularity" and data.times is None) and not (
            name == "EASE" and data.item_count > DENSE
        ):
            yield name, baseline.fit(data, split.train_stops)


def other_split(data: Interactions, split: Split, targets: Sequence[str] = ()) -> Split | None:
    """The split that this run does not train on, None where the data do not allow it."""
    name = next(name for name in SPLITS if name != split.name)
    try:
        return SPLITS[name](data, targets=targets)
    except InputError:
        return None
