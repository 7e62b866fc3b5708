"""Who may look at whom, as a rule on coordinates instead of a tensor.

A mask is a predicate on the coordinates of a query and a key, with a bound on how far it reaches. A kernel asks it for what
it needs; offline, padded, packed and streaming attention evaluate the same rule. True means may be seen.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Bool
from torch import Tensor

from headwise.attention.coordinates import Coordinates


@dataclass(frozen=True)
class Mask:
    """A rule that says which keys a query may see.

    Attributes:
        sees: from the coordinates of queries and keys, broadcast against each other, to True where the key may be seen.
        back: how many positions behind a query a visible key can lie at most.
        ahead: how many positions ahead of a query a visible key can lie at most.
        name: for people.
    """

    sees: Callable[[Coordinates, Coordinates], Tensor]
    back: float = math.inf
    ahead: float = math.inf
    name: str = "mask"

    def __and__(self, other: "Mask") -> "Mask":
        """Visible where both rules allow it."""
        return Mask(
            lambda query, key: self.sees(query, key) & other.sees(query, key),
            min(self.back, other.back),
            min(self.ahead, other.ahead),
            f"{self.name} & {other.name}",
        )

    def __or__(self, other: "Mask") -> "Mask":
        """Visible where either rule allows it."""
        return Mask(
            lambda query, key: self.sees(query, key) | other.sees(query, key),
            max(self.back, other.back),
            max(self.ahead, other.ahead),
            f"({self.name} | {other.name})",
        )

    def __repr__(self) -> str:
        return self.name


causal = Mask(lambda query, key: key.position <= query.position, ahead=0, name="causal")
"""No key after the query. Positions must grow along a row, as those of `rows` do."""

same_segment = Mask(lambda query, key: (key.segment == query.segment) & (key.segment > 0), name="same segment")
"""Only keys of the query's own sequence: this is what keeps padding and packed neighbours out."""


def chunk(size: int, left: int) -> Mask:
    """Keys of the query's own chunk of `size` positions and of the `left` positions before that chunk.

    The mask of streaming recognition: what a query sees is known once its chunk is complete.
    """

    def sees(query: Coordinates, key: Coordinates) -> Tensor:
        start = query.position // size * size
        return (key.position >= start - left) & (key.position < start + size)

    return Mask(sees, back=left + size - 1, ahead=size - 1, name=f"chunk({size}, left={left})")


class View:
    """One forward pass's answer to "who looks at whom"; all layers share it, so the mask is evaluated once."""

    def __init__(self, at: Coordinates, mask: Mask, of: Coordinates | None = None) -> None:
        """Queries at `at` look at keys at `of` (at themselves where None) by the rule `mask`."""
        self.at = at
        self.of = at if of is None else of
        self.mask = mask

    @property
    def is_causal(self) -> bool:
        """Whether the rule is nothing but `causal` among the tokens themselves, for which kernels have a faster path."""
        return self.mask is causal and self.at is self.of

    @cached_property
    def visible(self) -> Bool[Tensor, "batch 1 queries keys"]:
        """The rule evaluated: True where the query may see the key."""
        at, of = self.at.map(lambda c: c[:, :, None]), self.of.map(lambda c: c[:, None, :])
        return self.mask.sees(at, of)[:, None]

    @cached_property
    def real(self) -> Bool[Tensor, "batch queries"]:
        """True where a query is a token, False where it is padding."""
        return self.at.segment > 0
