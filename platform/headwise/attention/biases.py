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
    """-m |i - j|, with slope m = 2^(-8 h / heads) for head h = 1 ... heads (Press et al. 2022): nearer keys score higher.

    The paper is causal; |.| is for keys ahead. Its code spaces the slopes otherwise where heads are no power of 2.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, query: Coordinates, key: Coordinates) -> Float[Tensor, "batch heads queries keys"]:
        """The bias of every pair, in single precision."""
        distance = (query.position - key.position).abs()[:, None]
        head = torch.arange(1, self.heads + 1, device=distance.device).view(-1, 1, 1)
        return -(2.0 ** (-8.0 * head / self.heads)) * distance


class RelativeBias(nn.Module):
    """A learned number for each head and signed distance i - j, clipped (T5, Raffel et al. 2020, section 2.1).

    Distances are told apart one by one, as in Shaw et al. 2018, where T5 takes larger ones together.

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

    TiSASRec (Li et al. 2020) learns a vector for each clipped interval, HSTU (Zhai et al. 2024, eq. 2) a number for each bucket,
    as here. Interval d, in whole seconds, falls in bucket floor(2 log2(1 + d / unit)), which is found by comparing whole
    numbers, since a logarithm rounds differently here and there. `rows` knows no times: give them by `at._replace(time=...)`.

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
        edges = unit * (2 ** (torch.arange(1, buckets).double() / 2) - 1)
        self.register_buffer("edges", edges.ceil().long(), persistent=False)
        self.table = nn.Parameter(torch.zeros(buckets, heads))

    def forward(self, query: Coordinates, key: Coordinates) -> Float[Tensor, "batch heads queries keys"]:
        """The bias of every pair.

        Raises:
            ValueError: the coordinates are not whole numbers.
        """
        interval = (getattr(query, self.of) - getattr(key, self.of)).abs()
        if interval.is_floating_point():
            raise ValueError(
                f"{self.of} holds {interval.dtype}: intervals are told apart in whole seconds, give integers"
            )
        return F.embedding(torch.bucketize(interval, self.edges, right=True), self.table).movedim(-1, 1)
