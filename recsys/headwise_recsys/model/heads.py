"""How an item is compared with what the model expects: two vectors whose product is the score.

Whatever the head, a score is a product, so that every loss, the exact top-k and the served graph need to know nothing of it.
"""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.transformer import Dropout


@runtime_checkable
class Head(Protocol):
    """Gives both sides of the product."""

    def expected(
        self, hidden: Float[Tensor, "*batch width"], last: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch score_width"]:
        """What is multiplied with the items, from the encoder's answer at an item and that item itself."""
        ...

    def vectors(
        self, embedded: Float[Tensor, "*items width"], items: Int[Tensor, "*items"] | None
    ) -> Float[Tensor, "*items score_width"]:
        """What `items`, whose embeddings are given, are multiplied with; None stands for the whole table, padding included."""
        ...


class Dot(nn.Module):
    """The product with the item's embedding itself, as in SASRec."""

    def expected(
        self, hidden: Float[Tensor, "*batch width"], last: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch width"]:
        """The encoder's answer."""
        return hidden

    def vectors(
        self, embedded: Float[Tensor, "*items width"], items: Int[Tensor, "*items"] | None
    ) -> Float[Tensor, "*items width"]:
        """The embeddings."""
        return embedded


class Cosine(nn.Module):
    """cos(hidden, embedding) / temperature, with a learned temperature (CLIP, Radford et al. 2021).

    An item's popularity can no longer hide in the length of its vector.

    Args:
        temperature: at the start; HSTU (Zhai et al. 2024) keeps 0.05.
    """

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def expected(
        self, hidden: Float[Tensor, "*batch width"], last: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch width"]:
        """The direction of the encoder's answer, as long as the temperature says."""
        return F.normalize(hidden, dim=-1) * self.log_scale.exp()

    def vectors(
        self, embedded: Float[Tensor, "*items width"], items: Int[Tensor, "*items"] | None
    ) -> Float[Tensor, "*items width"]:
        """The directions of the embeddings; padding has none and stays 0."""
        return F.normalize(embedded, dim=-1)


class Transition(nn.Module):
    """Another head's score, and how well each item follows the last one: + leaving[last] . arriving[item].

    The factorised Markov chain of FPMC (Rendle et al. 2010, eq. 7) within the same product, of `rank + width` numbers. What
    follows what then need not pass through the encoder. It starts at zero.

    Args:
        head: the other head.
        items: how many items there are.
        rank: of the chain's matrix.
        dropout: on what leaves.
    """

    def __init__(self, head: Head, items: int, rank: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.head = head
        self.leaving, self.arriving = nn.Embedding(items + 1, rank), nn.Embedding(items + 1, rank)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.leaving.weight, std=rank**-0.5)
        nn.init.zeros_(self.arriving.weight)

    def expected(
        self, hidden: Float[Tensor, "*batch width"], last: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch score_width"]:
        """What the other head multiplies, and what leaves the last item."""
        return torch.cat([self.head.expected(hidden, last), self.dropout(self.leaving(last))], -1)

    def vectors(
        self, embedded: Float[Tensor, "*items width"], items: Int[Tensor, "*items"] | None
    ) -> Float[Tensor, "*items score_width"]:
        """The other head's vectors, and what arrives at each item."""
        arriving = self.arriving.weight if items is None else self.arriving(items)
        return torch.cat([self.head.vectors(embedded, items), arriving], -1)
