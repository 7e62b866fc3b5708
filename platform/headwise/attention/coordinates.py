"""Where a token stands. Masks, positions and biases are functions of these coordinates, and caches hold them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class Coordinates(NamedTuple):
    """Coordinates of the tokens of a batch.

    Padding, an empty cache slot and a neighbour packed into the same row are one case: a token of another segment. The tokens
    of a sequence stand side by side in their row, in order; sparse kernels rely on it.

    Attributes:
        position: place in its own sequence, from 0.
        segment: which sequence of the row it belongs to, from 1; 0 means that there is no token here.
        time: timestamp in seconds; 0 where time plays no part.
    """

    position: Int[Tensor, "batch time"]
    segment: Int[Tensor, "batch time"]
    time: Int[Tensor, "batch time"]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Coordinates":
        """The same function applied to each coordinate."""
        return Coordinates(*(function(coordinate) for coordinate in self))

    def then(self, later: "Coordinates") -> "Coordinates":
        """These tokens followed by later ones, along time."""
        return Coordinates(*(torch.cat(pair, 1) for pair in zip(self, later, strict=True)))


def rows(lengths: Int[Tensor, " batch"], time: int, start: Int[Tensor, " batch"] | None = None) -> Coordinates:
    """Coordinates of right-padded rows that hold one sequence each.

    Args:
        lengths: how many tokens each row holds.
        time: padded length of the rows.
        start: how many tokens of each sequence came in earlier steps; none where None.
    """
    place = torch.arange(time, device=lengths.device).expand(lengths.shape[0], time)
    position = place if start is None else place + start[:, None]
    return Coordinates(position, (place < lengths[:, None]).long(), torch.zeros_like(position))
