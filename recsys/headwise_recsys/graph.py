"""The recommender as ONNX graphs: history in, best items out, with every filter and the top-k inside; and what it looked at.

The explanation is a graph of its own: ONNX Runtime computes all of a graph, whichever outputs are asked for.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.attention import SDPBackend, sdpa_kernel

from headwise.export import Graph
from headwise.transformer import rollout
from headwise_recsys.model import SASRec

MAX_K = 1000  # items a request may ask for, at most


class RecommenderGraph(nn.Module):
    """Scores the catalogue after a history and returns the best items that may be recommended.

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
        k: Int[Tensor, ""],
        exclude: Int[Tensor, "batch excluded"],
        allow: Int[Tensor, "batch allowed"],
    ) -> tuple[Int[Tensor, "batch k"], Float[Tensor, "batch k"]]:
        """The `k` best items of each row, best first; ONNX Runtime returns equal scores in the order of the catalogue.

        Args:
            history: items, oldest first, right-padded with 0; never recommended.
            lengths: how many items each history holds.
            k: how many items to return.
            exclude: items never to recommend, 0-padded.
            allow: the only items to recommend, 0-padded; a row of zeros allows all.

        Returns:
            Items and their scores; item 0 with score -inf where nothing more is eligible.
        """
        scores = self.model.scores(self.model.expects(history, lengths))
        allowed = torch.zeros_like(scores).scatter(1, allow, 1.0) > 0
        unrestricted = (allow == 0).all(1, keepdim=True)
        scores = scores.masked_fill(~(allowed | unrestricted), -math.inf)
        scores = scores.scatter(1, history, -math.inf).scatter(1, exclude, -math.inf)
        scores = torch.cat([torch.full_like(scores[:, :1], -math.inf), scores[:, 1:]], 1)
        count = k.item()
        torch._check(count >= 1)
        torch._check(count <= min(MAX_K, self.model.items))
        best, items = torch.topk(scores, count)  # type: ignore[arg-type]  # a symbolic size while it is exported
        return items.masked_fill(best == -math.inf, 0), best


def recommender_graph(model: SASRec) -> Graph:
    """What there is to export: the module, example inputs, names and the sizes that may change."""
    batch, time = Dim("batch", max=4096), Dim("time", max=model.window)
    some = torch.tensor([[1, 2, 3], [1, 2, 0]])
    return Graph(
        module=RecommenderGraph(model),
        inputs={
            "history": some,
            "lengths": torch.tensor([3, 2]),
            "k": torch.tensor(2),
            "exclude": torch.tensor([[3, 0], [0, 0]]),
            "allow": torch.tensor([[0, 0, 0, 0], [1, 2, 3, 0]]),
        },
        outputs=("items", "scores"),
        dynamic={
            "history": {0: batch, 1: time},
            "lengths": {0: batch},
            "k": {},
            "exclude": {0: batch, 1: Dim("excluded")},
            "allow": {0: batch, 1: Dim("allowed")},
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
        self, history: Int[Tensor, "batch time"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch time"]]:
        """The share of each item in what is made of the last one, by attention rollout; 0 for padding.

        Args:
            history: items, oldest first, right-padded with 0.
            lengths: how many items each history holds.
        """
        with sdpa_kernel(SDPBackend.MATH):  # the choice of a fused one would forbid as many items as a head is wide
            shares = rollout(self.model.attention_weights(history, lengths))
        last = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, shares.shape[2])
        return (shares.gather(1, last).squeeze(1),)


def explanation_graph(model: SASRec) -> Graph:
    """What there is to export beside the recommender."""
    batch, time = Dim("batch", max=4096), Dim("time", max=model.window)
    return Graph(
        module=ExplanationGraph(model),
        inputs={"history": torch.tensor([[1, 2, 3], [1, 2, 0]]), "lengths": torch.tensor([3, 2])},
        outputs=("attention",),
        dynamic={"history": {0: batch, 1: time}, "lengths": {0: batch}},
    )
