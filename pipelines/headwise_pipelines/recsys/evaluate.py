"""How a recommender folder, as it is served, ranks the test items of a data set."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError
from headwise.model_folder import ModelCard
from headwise_pipelines.recsys.report import SPLITS, Metrics, baselines
from headwise_recsys.interactions import Interactions
from headwise_recsys.metrics import hit_rate, ndcg
from headwise_recsys.prepare import prepare
from headwise_recsys.service import Recommender, load
from headwise_recsys.splits import Queries

DEEP = 20  # items of an answer that are looked at
CUTOFFS = (1, 5, 10, 20)
BATCH = 256


def evaluate(
    folder: Path, card: ModelCard, data: Path, split: str | None, work: Path
) -> tuple[dict[str, float], dict[str, Metrics]]:
    """HR and NDCG of the served answers on the test queries, and those of the baselines.

    The catalogue is the model's: items of the data that it does not know are left out of histories and are misses as targets.
    """
    config = card.provenance.get("config", {})
    prepared = prepare(data, work / "data", min_count=int(config.get("min_count", 1)))
    chosen = SPLITS[split or config.get("split", "leave-one-out")](prepared)
    ranks = served_ranks(load(folder), prepared, chosen.test)
    metrics = {f"hr_{k}": float(hit_rate(ranks, k).mean()) for k in CUTOFFS}
    metrics |= {f"ndcg_{k}": float(ndcg(ranks, k).mean()) for k in CUTOFFS}
    return metrics, baselines(prepared, chosen)


def served_ranks(service: Recommender, data: Interactions, queries: Queries) -> NDArray[np.float64]:
    """Place of each target in the answer that the service gives, infinite where it is not among the first 20.

    Raises:
        InputError: the model knows none of the data's items.
    """
    ranks = np.full(len(queries), np.inf)
    known = np.array(service.knows(data.item_ids))
    if not known.any():
        raise InputError(f"{data.name}: the model knows none of its {data.item_count} items; is it the right data?")
    for start in range(0, len(queries), BATCH):
        part = queries[slice(start, start + BATCH)]
        histories = [
            [data.item_ids[item - 1] for item in data.items[a:b].tolist() if known[item - 1]]
            for a, b in zip(part.starts.tolist(), part.stops.tolist(), strict=True)
        ]
        targets = [data.item_ids[item - 1] for item in data.items[part.targets].tolist()]
        for row, (answer, target) in enumerate(zip(service.recommend_many(histories, DEEP), targets, strict=True)):
            if target in answer:
                ranks[start + row] = answer.index(target) + 1
    return ranks
