"""How much an approximate search of the catalogue finds of the exact answer, and what that costs."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwise.errors import ParityError
from headwise.export import Runner
from headwise_recsys.batches import ask
from headwise_recsys.graph import RecommenderGraph
from headwise_recsys.interactions import Interactions
from headwise_recsys.metrics import at_once, ndcg
from headwise_recsys.model import SASRec
from headwise_recsys.splits import Queries

TOP = 10
QUERIES = 512  # that are compared


@torch.inference_mode()
def prove_scan(
    runner: Runner, model: SASRec, data: Interactions, queries: Queries, *, least: float
) -> dict[str, float | int]:
    """What the graph finds of the model's exact top 10 on real queries.

    Args:
        runner: the graph that searches approximately.
        model: the model.
        data: what the queries point into.
        queries: real ones, of which the first 512 are asked.
        least: the recall that is enough.

    Returns:
        `rows` compared, `recall_10`, `least`, and NDCG@10 of both, `ndcg_10_exact` and `ndcg_10`.

    Raises:
        ParityError: the graph finds too little.
    """
    exact, asked = RecommenderGraph(model).eval(), queries[slice(0, QUERIES)]
    wanted, found = [], []
    for part in asked.batches(at_once(data.item_count, QUERIES)):
        inputs = _inputs(data, part, model)
        wanted.append(exact(*inputs.values())[0].numpy())
        found.append(runner.by_graph({name: value.numpy() for name, value in inputs.items()})["items"])
    if not wanted:
        raise ParityError("the exported graph was compared with the model on no input; nothing was exported")
    want, got = np.concatenate(wanted), np.concatenate(found)
    recall = float(np.mean([np.isin(mine, theirs).mean() for mine, theirs in zip(want, got, strict=True)]))
    if not recall >= least:
        raise ParityError(
            f"the quantised graph finds {recall:.4f} of the exact top {want.shape[1]} on {len(want)} validation queries "
            f"(export.recall: {least:g}); nothing was exported. Set export.quantised to false, or export.recall lower"
        )
    targets = data.items[asked.targets]
    gains = {"ndcg_10_exact": _ndcg(want, targets), "ndcg_10": _ndcg(got, targets)}
    return {"rows": len(want), "recall_10": recall, "least": least, **gains}


def _inputs(data: Interactions, queries: Queries, model: SASRec) -> dict[str, Tensor]:
    # In the order in which the module takes them.
    asked, none = ask(data, queries, model.window, model.beside), torch.zeros(len(queries), 1, dtype=torch.long)
    inputs = {"history": asked.history, "lengths": asked.lengths, "k": torch.tensor(min(TOP, model.items))}
    return inputs | {"exclude": none, "allow": none, **asked.beside}


def _ndcg(items: NDArray[np.generic], targets: NDArray[np.int32]) -> float:
    hits = items == targets[:, None]
    return float(ndcg(np.where(hits.any(1), hits.argmax(1) + 1, np.inf), TOP).mean())
