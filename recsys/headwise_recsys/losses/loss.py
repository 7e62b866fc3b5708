"""What the task asks of a loss, and a loss of the model."""

from typing import NamedTuple, Protocol

from jaxtyping import Float, Int
from torch import Tensor


class Vectors(Protocol):
    """Gives the vectors whose product with what the model expects is an item's score."""

    def __call__(self, items: Int[Tensor, "..."] | None = None) -> Float[Tensor, "... width"]:
        """The vectors of `items`, or of the whole catalogue, items 1..V in order, where None."""


class Seen(NamedTuple):
    """What the user of each position had seen by then: position p had seen `items[starts[p]:stops[p]]`.

    Attributes:
        items: histories of the users of a batch, one after another.
        starts: where the history of each position begins.
        stops: one past where it ends.
    """

    items: Int[Tensor, " events"]
    starts: Int[Tensor, " positions"]
    stops: Int[Tensor, " positions"]


class Loss(Protocol):
    """The mean over positions of how badly each expected the item that came."""

    def __call__(
        self,
        hidden: Float[Tensor, "positions width"],
        targets: Int[Tensor, " positions"],
        vectors: Vectors,
        seen: Seen | None = None,
    ) -> Float[Tensor, ""]:
        """The loss.

        Args:
            hidden: what the model says at each position that has a target.
            targets: the items that came, from 1.
            vectors: of the items.
            seen: items that will not be recommended, so that a loss need not compare with them.

        Raises:
            ValueError: there is no position to take the mean of.
        """
