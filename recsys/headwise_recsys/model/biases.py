"""How far back an item lies, in positions and in time, as one bias on the scores of attention."""

from jaxtyping import Float
from torch import Tensor, nn

from headwise.attention import Coordinates, IntervalBias, RelativeBias


class PositionAndTime(nn.Module):
    """A learned number for each distance in positions and one for each interval of time (rab^{p,t} of HSTU, Zhai et al. 2024).

    Args:
        heads: of the attention.
        distance: positions that are told apart; farther ones count as the farthest.
    """

    def __init__(self, heads: int, distance: int) -> None:
        super().__init__()
        self.position, self.time = RelativeBias(heads, distance), IntervalBias(heads)

    def forward(self, query: Coordinates, key: Coordinates) -> Float[Tensor, "batch heads queries keys"]:
        """The bias of every pair."""
        both: Tensor = self.position(query, key) + self.time(query, key)
        return both
