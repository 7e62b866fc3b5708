"""How much the order of a history is worth: the same question with its items shuffled."""

from dataclasses import replace

import numpy as np

from headwise_recsys.interactions import Interactions
from headwise_recsys.splits import Queries, spans


def shuffled(data: Interactions, queries: Queries, *, window: int, keep: int = 0, seed: int = 0) -> Interactions:
    """The same events with each history in random order (after Klenitskiy et al., "Does It Look Sequential?", 2024).

    A recommender that gives as good lists as before makes no use of order. Departing from the paper, which shuffles what is
    trained on, the trained model is asked: this is about the model, not about the data. Only the part that it reads is
    shuffled, so that it reads the same items; times stay where they are.

    Args:
        data: what the queries point into.
        queries: whose histories are shuffled; no two of them may share events.
        window: items of a history, the last ones, that the model reads.
        keep: the last ones of these that stay in their place: with 1, what is lost is the order before the last item.
        seed: the same seed gives the same order.
    """
    starts = np.maximum(queries.starts, queries.stops - window)
    rows, events = spans(starts, np.maximum(queries.stops - keep, starts))
    order = np.lexsort((np.random.default_rng(seed).random(len(events)), rows))
    items = np.array(data.items)
    items[events] = data.items[events[order]]
    return replace(data, items=items)
