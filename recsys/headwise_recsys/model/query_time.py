"""When the next item is asked for, as a vector: how long after the last event, on a logarithmic scale."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import Coordinates

STEPS = 4  # buckets to a doubling: up to 6 seconds each has its own
BUCKETS = 100  # the last one takes all that is longer than a year


class QueryTime(nn.Module):
    """A learned vector for the time from each event to the next one, which at the last event is the query.

    The time of an event is known when its item is asked for, so a token may know the time of the next event and never its item:
    after seconds other items follow than after a month. Departing from the timestamp that HSTU (Zhai et al. 2024) adds
    in attention, it is the token itself that knows. Interval d, in whole seconds, falls in bucket floor(4 log2(1 + d)); below
    0 counts as 0. Vectors begin at 0, so that an interval never seen in training says nothing.

    A model that has it answers another question than one that knows order alone, and its figures are a class of their own.

    Args:
        width: of the tokens.
    """

    edges: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        edges = 2 ** (torch.arange(1, BUCKETS).double() / STEPS) - 1
        self.register_buffer("edges", edges.ceil().long(), persistent=False)
        self.table = nn.Parameter(torch.zeros(BUCKETS, width))

    def forward(self, asked: Int[Tensor, "batch time"], at: Coordinates) -> Float[Tensor, "batch time width"]:
        """The vector of each token.

        Args:
            asked: when what follows each token is asked for, in seconds.
            at: where the tokens stand, with their own times.
        """
        return F.embedding(torch.bucketize(asked - at.time, self.edges, right=True), self.table)
