"""What the task asks of a loss, and a loss of the model."""

from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor


class Vectors(Protocol):
    """Gives the vectors whose product with what the model expects is an item's score."""

    def __call__(self, items: Int[Tensor, "..."] | None = None) -> Float[Tensor, "... width"]:
        """The vectors of `items`, or of the whole catalogue, items 1..V in order, where None."""


class Loss(Protocol):
    """The mean over positions of how badly each expected the item that came."""

    def __call__(
        self, hidden: Float[Tensor, "positions width"], targets: Int[Tensor, " positions"], vectors: Vectors
    ) -> Float[Tensor, ""]:
        """The loss.

        Args:
            hidden: what the model says at each position that has a target.
            targets: the items that came, from 1.
            vectors: of the items.

        Raises:
            ValueError: there is no position to take the mean of.
        """
