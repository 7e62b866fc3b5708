"""What is added to the scores for where a query and a key stand, as a function of their coordinates."""

from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention.coordinates import Coordinates


@runtime_checkable
class Bias(Protocol):
    """A number for each head, query and key; kernels that evaluate only some pairs ask for only those."""

    def __call__(self, query: Coordinates, key: Coordinates) -> Float[Tensor, "batch #heads queries keys"]:
        """Coordinates of queries [batch, queries, 1] and keys [batch, 1, keys]."""
        ...


class ALiBi(nn.Module):
    """-m |i - j|, a constant slope m = 2^(-8 h / heads) for head h (Press et al. 2022): nearer keys score higher."""

    slope: Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        slope = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
        self.register_buffer("slope", slope.view(heads, 1, 1), persistent=False)

    def forward(self, query: Coordinates, key: Coordinates) -> Float[Tensor, "batch heads queries keys"]:
        """The bias of every pair."""
        return -self.slope * (query.position - key.position).abs()[:, None]


class RelativeBias(nn.Module):
    """A learned number for each head and signed distance i - j (Shaw et al. 2018; the scalar form of T5, Raffel et al. 2020).

    Args:
        heads: of the attention.
        distance: positions on either side that are told apart; farther ones count as the farthest.
    """

    def __init__(self, heads: int, distance: int) -> None:
        super().__init__()
        self.distance = distance
        self.table = nn.Parameter(torch.zeros(2 * distance + 1, heads))

    def forward(self, query: Coordinates, key: Coordinates) -> Float[Tensor, "batch heads queries keys"]:
        """The bias of every pair."""
        behind = (query.position - key.position).clamp(-self.distance, self.distance)
        return F.embedding(behind + self.distance, self.table).movedim(-1, 1)


class IntervalBias(nn.Module):
    """A learned number for each head and time between two tokens, on a logarithmic scale.

    After the time intervals of TiSASRec (Li et al. 2020), which are clipped and linear, in the bucketed form of HSTU (Zhai et
    al. 2024): interval d falls in bucket floor(2 log2(1 + d / unit)), which is found by comparing, since a logarithm rounds
    differently here and there.

    Args:
        heads: of the attention.
        buckets: how many; the last one takes all that is longer.
        unit: seconds that count as short.
        of: "time" for seconds between events, "position" for positions on the same scale.
    """

    edges: Tensor

    def __init__(
        self, heads: int, *, buckets: int = 48, unit: float = 1.0, of: Literal["time", "position"] = "time"
    ) -> None:
        super().__init__()
        self.of = of
        self.register_buffer("edges", unit * (2 ** (torch.arange(1, buckets) / 2) - 1), persistent=False)
        self.table = nn.Parameter(torch.zeros(buckets, heads))

    def forward(self, query: Coordinates, key: Coordinates) -> Float[Tensor, "batch heads queries keys"]:
        """The bias of every pair."""
        interval = (getattr(query, self.of) - getattr(key, self.of)).abs().to(self.edges.dtype)
        return F.embedding(torch.bucketize(interval, self.edges, right=True), self.table).movedim(-1, 1)
