"""The recommender as ONNX graphs: history in, best items out, with every filter and the top-k inside; and what it looked at.

The explanation is a graph of its own: ONNX Runtime computes all of a graph, whichever outputs are asked for.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from headwise.export import Graph
from headwise.transformer import rollout
from headwise_recsys.model import Dot, SASRec, User
from headwise_recsys.quantised import QuantisedTable
from headwise_recsys.retrieval import best_again, best_items, looked_at, rows_needed

MAX_K = 1000  # items a request may ask for, at most


class RecommenderGraph(nn.Module):
    """Scores the catalogue after a history and returns the best items that may be recommended.

    Args:
        model: the trained model.
        quantised: find candidates by 8-bit vectors and score those exactly: faster for hundreds of thousands of items, and
            nearly the same answer.
    """

    def __init__(self, model: SASRec, *, quantised: bool = False) -> None:
        super().__init__()
        self.model, self.table = _with_table(model)
        self.scan = QuantisedTable(self.table) if quantised else None

    def forward(
        self,
        history: Int[Tensor, "batch time"],
        lengths: Int[Tensor, " batch"],
        k: Int[Tensor, ""],
        exclude: Int[Tensor, "batch excluded"],
        allow: Int[Tensor, "batch allowed"],
        *beside: Tensor,
    ) -> tuple[Int[Tensor, "batch k"], Float[Tensor, "batch k"]]:
        """The `k` best items of each row, best first; ONNX Runtime returns equal scores in the order of the catalogue.

        Args:
            history: items, oldest first, right-padded with 0; not recommended, unless the model has `repeats`.
            lengths: how many items each history holds.
            k: how many items to return.
            exclude: items never to recommend, 0-padded.
            allow: the only items to recommend, 0-padded; a row of zeros allows all.
            beside: what the model reads beside the history, in the order of its `beside`, each an input of the graph by its name.

        Returns:
            Items and their scores; item 0 with score -inf where nothing more is eligible.
        """
        expected = self.model.expects(history, lengths, *beside)
        return self.search(expected, k, self.barred(history, exclude), allow)

    def barred(
        self, history: Int[Tensor, "batch time"], exclude: Int[Tensor, "batch excluded"]
    ) -> Int[Tensor, "batch barred"]:
        """The items not to return: those to exclude, and those of the history unless they may come again."""
        return exclude if self.model.repeats else torch.cat([history, exclude], 1)

    def search(
        self,
        expected: Float[Tensor, "batch score_width"],
        k: Int[Tensor, ""],
        barred: Int[Tensor, "batch barred"],
        allow: Int[Tensor, "batch allowed"],
    ) -> tuple[Int[Tensor, "batch k"], Float[Tensor, "batch k"]]:
        """The `k` best items for what is expected, without those that are barred."""
        items, count = self.model.items, k.item()
        torch._check(count >= 1)
        torch._check(count <= min(MAX_K, items))
        size: Any = count  # symbolic while it is exported
        if self.scan is None:
            return best_items(F.linear(expected, self.table), size, barred=barred, allow=allow, items=items)
        many = looked_at(size, len(self.table))
        candidates, _ = best_items(self.scan(expected), many, barred=barred, allow=allow, items=items)
        return best_again(expected, self.table, candidates, size)


def _with_table(model: SASRec) -> tuple[SASRec, nn.Parameter]:
    """The model, and the table that the graph scores with: the model's own where the head takes embeddings as they are."""
    weight = model.embedding.weight.detach()
    missing = rows_needed(model.items) - len(weight)
    table = nn.Parameter(F.pad(model.head.vectors(weight, None).detach(), (0, 0, 0, missing)), requires_grad=False)
    if isinstance(model.head, Dot):
        model = copy.copy(model)
        embedding = nn.Embedding.from_pretrained(table)
        embedding.weight = table
        model._modules = model._modules | {"embedding": embedding}
    return model, table


def recommender_graph(model: SASRec, *, quantised: bool = False) -> Graph:
    """What there is to export: the module, example inputs, names and the sizes that may change."""
    batch, time = Dim("batch", max=4096), Dim("time", max=model.window)
    some = torch.tensor([[1, 2, 3], [1, 2, 0]])
    return Graph(
        module=RecommenderGraph(model, quantised=quantised),
        inputs={
            "history": some,
            "lengths": torch.tensor([3, 2]),
            "k": torch.tensor(2),
            "exclude": torch.tensor([[3, 0], [0, 0]]),
            "allow": torch.tensor([[0, 0, 0, 0], [1, 2, 3, 0]]),
            **beside_example(model),
        },
        outputs=("items", "scores"),
        dynamic={
            "history": {0: batch, 1: time},
            "lengths": {0: batch},
            "k": {},
            "exclude": {0: batch, 1: Dim("excluded")},
            "allow": {0: batch, 1: Dim("allowed")},
            **beside_sizes(model, batch, time),
        },
    )


class ExplanationGraph(nn.Module):
    """Which items of a history the model looked at for what it expects next.

    Args:
        model: the trained model.
    """

    def __init__(self, model: SASRec) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        history: Int[Tensor, "batch time"],
        lengths: Int[Tensor, " batch"],
        *beside: Tensor,
    ) -> tuple[Float[Tensor, "batch time"]]:
        """The share of each item in what is made of the last one, by attention rollout; 0 for padding.

        Args:
            history: items, oldest first, right-padded with 0.
            lengths: how many items each history holds.
            beside: as of the recommender.
        """
        with sdpa_kernel(SDPBackend.MATH):  # the choice of a fused one would forbid as many items as a head is wide
            shares = rollout(self.model.attention_weights(history, lengths, *beside))
        last = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, shares.shape[2])
        return (shares.gather(1, last).squeeze(1),)


def explanation_graph(model: SASRec) -> Graph:
    """What there is to export beside the recommender."""
    batch, time = Dim("batch", max=4096), Dim("time", max=model.window)
    return Graph(
        module=ExplanationGraph(model),
        inputs={
            "history": torch.tensor([[1, 2, 3], [1, 2, 0]]),
            "lengths": torch.tensor([3, 2]),
            **beside_example(model),
        },
        outputs=("attention",),
        dynamic={"history": {0: batch, 1: time}, "lengths": {0: batch}, **beside_sizes(model, batch, time)},
    )


def beside_example(model: SASRec) -> dict[str, Tensor]:
    """An example of each input that the model reads beside a history, for two histories of up to three items."""
    examples = {
        "times": torch.tensor([[10, 20, 30], [40, 50, 0]]),
        "at": torch.tensor([70, 60]),
        "types": torch.tensor([[1, 0, 1], [1, 1, 0]]),
    }
    if "user" in model.beside:
        user = model.context["user"]
        assert isinstance(user, User)
        examples["user"] = torch.rand(2, user.weight.shape[1])
    return {name: examples[name] for name in model.beside}


def beside_sizes(model: SASRec, batch: Dim, time: Dim) -> dict[str, dict[int, Dim]]:
    """Which sizes of these inputs may change."""
    sizes = {"times": {0: batch, 1: time}, "at": {0: batch}, "types": {0: batch, 1: time}, "user": {0: batch}}
    return {name: sizes[name] for name in model.beside}
