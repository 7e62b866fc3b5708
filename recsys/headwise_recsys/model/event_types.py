"""What was done with an item, as a vector: a view says something else of what comes next than a purchase."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from headwise.attention import Coordinates


class EventTypes(nn.Module):
    """A learned vector for each type of event. Vectors begin at 0, and type 0, which is unknown, stays there.

    Args:
        types: how many there are.
        width: of the tokens.
    """

    def __init__(self, types: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(types + 1, width, padding_idx=0)
        nn.init.zeros_(self.vectors.weight)

    def forward(self, types: Int[Tensor, "batch time"], at: Coordinates) -> Float[Tensor, "batch time width"]:
        """The vector of each token."""
        vectors: Tensor = self.vectors(types)
        return vectors
