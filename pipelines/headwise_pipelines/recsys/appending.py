"""The graph with a memory beside the model that it must agree with, which is asked for the whole history."""

import numpy as np
import torch
from numpy.typing import NDArray

from headwise.export import Arrays, Runner
from headwise_recsys.context import EACH
from headwise_recsys.graph import RecommenderGraph
from headwise_recsys.model import SASRec


class EventByEvent:
    """What `prove` compares: all events but the last at once, then the last; and the whole history by the model.

    Args:
        runner: the graph with a memory.
        model: the model.
    """

    def __init__(self, runner: Runner, model: SASRec) -> None:
        self.runner, self.whole, self.beside = runner, RecommenderGraph(model).eval(), model.beside
        states = model.encoder.empty_states(1, model.window)
        self.memory = (len(states), *states[0].attention.key.shape[1:])  # type: ignore[union-attr]

    @torch.inference_mode()
    def by_module(self, inputs: Arrays) -> Arrays:
        """The model's answer."""
        names = ("history", "lengths", "k", "exclude", "allow", *self.beside)
        items, scores = self.whole(*(torch.from_numpy(np.asarray(inputs[name])) for name in names))
        return {"items": items.numpy(), "scores": scores.numpy()}

    def by_graph(self, inputs: Arrays) -> Arrays:
        """The graph's answer to the last event of each history."""
        lengths = inputs["lengths"]
        once = [name for name in self.beside if name not in EACH]
        lists = {name: inputs[name] for name in ("k", "exclude", "allow", *once)}
        columns = {"events": inputs["history"]} | {name: inputs[name] for name in self.beside if name in EACH}
        columns = {name: _to_the_right(rows, lengths) for name, rows in columns.items()}
        memory = self._nothing(len(lengths))
        if columns["events"].shape[1] > 1:
            answer = self.runner.by_graph({name: rows[:, :-1] for name, rows in columns.items()} | memory | lists)
            memory = {name: answer[f"next_{name}"] for name in memory}
        return self.runner.by_graph({name: rows[:, -1:] for name, rows in columns.items()} | memory | lists)

    def _nothing(self, batch: int) -> dict[str, NDArray[np.generic]]:
        slots = self.memory[2]
        empty = np.zeros((batch, *self.memory), np.float32)
        memory: dict[str, NDArray[np.generic]] = {
            "history": np.zeros((batch, slots), np.int64),
            "keys": empty,
            "values": empty,
        }
        return memory | ({"past_times": memory["history"]} if "times" in self.beside else {})


def _to_the_right(rows: NDArray[np.generic], lengths: NDArray[np.generic]) -> NDArray[np.generic]:
    moved = [np.roll(row, len(row) - length) for row, length in zip(rows, lengths.tolist(), strict=True)]
    return np.stack(moved)
