"""The recommender as an ONNX graph with a memory: what a new event costs is the new event, not the history before it."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.export import Dim

from headwise.attention import Cache, Coordinates
from headwise.export import Graph
from headwise.transformer import State
from headwise_recsys.graph import RecommenderGraph, beside_example, beside_sizes
from headwise_recsys.model import SASRec


class AppendGraph(nn.Module):
    """The best items after new events, given what the model remembers of those before; and what it remembers now.

    The answer is that of `RecommenderGraph` to the whole history as long as that is not longer than the model's window (and
    than the memory). Beyond, the two part: there the window slides, so that an item's position, and in deeper blocks what it
    has seen, change with each event, which no memory of it can follow. Whoever keeps the memory begins it anew then, with as
    many of the last items as leave room for the next, in one call: all rows of this graph may hold many new events.

    Args:
        model: the trained model.
        quantised: as of `RecommenderGraph`.

    Raises:
        ValueError: a block remembers something else than keys and values, or each item knows when the next one is asked for.
    """

    def __init__(self, model: SASRec, *, quantised: bool = False) -> None:
        super().__init__()
        states = model.encoder.empty_states(1, 1)
        if not all(isinstance(state.attention, Cache) and not state.convolution.numel() for state in states):
            raise ValueError("the memory of a graph is keys and values: linear attention has none (use another kernel)")
        if "at" in model.beside:
            raise ValueError(
                "an item that knows when the next one is asked for becomes another once that came: a memory of it is wrong "
                "(leave query_time out)"
            )
        self.whole = RecommenderGraph(model, quantised=quantised)

    def forward(
        self,
        events: Int[Tensor, "batch time"],
        history: Int[Tensor, "batch slots"],
        keys: Float[Tensor, "batch blocks heads slots head_width"],
        values: Float[Tensor, "batch blocks heads slots head_width"],
        k: Int[Tensor, ""],
        exclude: Int[Tensor, "batch excluded"],
        allow: Int[Tensor, "batch allowed"],
        *beside: Tensor,
    ) -> tuple[Tensor, ...]:
        """The `k` best items of each row and their scores, as of `RecommenderGraph`, and the four that follow `history`.

        Args:
            events: the new items, oldest first, at least one in each row; left-padded with 0, but only in rows without history,
                since padding would take the place of what is remembered.
            history: the items before, likewise; zeros alone where there are none yet. Recommended as little as the new ones.
            keys: as the last call gave them; anything finite where `history` is 0.
            values: as `keys`.
            k: how many items to return.
            exclude: further items never to recommend, 0-padded.
            allow: the only items to recommend, 0-padded; a row of zeros allows all.
            beside: what the model reads beside the events, in the order of its `beside`; and `past_times`, when those of
                `history` were, where it reads `times`.

        Returns:
            Items, scores, and `history`, `keys`, `values` (and `past_times`) for the next call.
        """
        known = dict(zip(appended(self.whole.model), beside, strict=True))
        if "user" in known:
            known["user"] = known["user"][:, None]
        before = (history > 0).sum(1)
        at = _coordinates(events, before, known.get("times"))
        past = _coordinates(history, torch.zeros_like(before), known.get("past_times"))
        states = _states(keys, values, past)
        expected, states = self.whole.model.step(events, at, states, known)
        seen = torch.cat([history, events], 1)
        items, scores = self.whole.search(expected[:, -1], k, self.whole.barred(seen, exclude), allow)
        slots = history.shape[1]
        after = [seen[:, -slots:], *_memory(states)]
        if "times" in known:
            after.append(torch.cat([known["past_times"], known["times"]], 1)[:, -slots:])
        return items, scores, *after


def appended(model: SASRec) -> tuple[str, ...]:
    """The names of what the graph takes beside events, in its order."""
    return (*model.beside, *(("past_times",) if model.timed else ()))


def append_graph(model: SASRec, *, quantised: bool = False) -> Graph:
    """What there is to export: the module, example inputs, names and the sizes that may change."""
    batch, time = Dim("batch", max=4096), Dim("time", max=model.window)
    slots = Dim("slots", max=model.window)
    keys, values = _memory(model.encoder.empty_states(2, 4))
    some, none = torch.tensor([[1, 2, 3], [0, 1, 2]]), torch.zeros(2, 4, dtype=torch.long)
    inputs = {
        "events": some,
        "history": none,
        "keys": keys,
        "values": values,
        "k": torch.tensor(2),
        "exclude": torch.tensor([[3, 0], [0, 0]]),
        "allow": torch.tensor([[0, 0, 0, 0, 0], [1, 2, 3, 0, 0]]),
    }
    dynamic: dict[str, dict[int, Any]] = {
        "events": {0: batch, 1: time},
        "history": {0: batch, 1: slots},
        "keys": {0: batch, 3: slots},
        "values": {0: batch, 3: slots},
        "k": {},
        "exclude": {0: batch, 1: Dim("excluded")},
        "allow": {0: batch, 1: Dim("allowed")},
    }
    outputs = ["items", "scores", "next_history", "next_keys", "next_values"]
    inputs |= beside_example(model)
    dynamic |= beside_sizes(model, batch, time)
    if model.timed:
        inputs["past_times"], dynamic["past_times"] = none.clone(), {0: batch, 1: slots}
        outputs.append("next_past_times")
    return Graph(AppendGraph(model, quantised=quantised), inputs, tuple(outputs), dynamic)


def _coordinates(items: Tensor, before: Tensor, times: Tensor | None) -> Coordinates:
    # Rows are padded on the left: the last item is always in the last place.
    places = torch.arange(items.shape[1]).expand(items.shape)
    real = (items > 0).long()
    position = (places - (items.shape[1] - real.sum(1, keepdim=True)) + before[:, None]).clamp(min=0)
    return Coordinates(position, real, torch.zeros_like(items) if times is None else times)


def _states(keys: Tensor, values: Tensor, at: Coordinates) -> Sequence[State]:
    nothing = keys.new_zeros(keys.shape[0], 0, 0)
    pairs = zip(keys.unbind(1), values.unbind(1), strict=True)
    return [State(Cache(key, value, at), nothing) for key, value in pairs]


def _memory(states: Sequence[State]) -> tuple[Tensor, Tensor]:
    caches: list[Cache] = [state.attention for state in states]  # type: ignore[misc]
    return torch.stack([cache.key for cache in caches], 1), torch.stack([cache.value for cache in caches], 1)
