"""One forward pass's answer to "who looks at whom"."""

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from headwise.attention.coordinates import Coordinates
from headwise.attention.masks import Mask, causal


class View:
    """Who looks at whom, shared by all layers of a forward pass, so that the mask is evaluated once."""

    def __init__(self, at: Coordinates, mask: Mask, of: Coordinates | None = None) -> None:
        """Queries at `at` look at keys at `of` (at themselves where None) by the rule `mask`."""
        self.at = at
        self.of = at if of is None else of
        self.mask = mask
        self._made: dict[Hashable, Any] = {}

    @property
    def within(self) -> bool:
        """Whether the queries look at one another: no `of` was given, or the very object that `at` is."""
        return self.at is self.of

    @property
    def is_causal(self) -> bool:
        """Whether the rule is nothing but `causal` among the tokens themselves, for which kernels have a faster path."""
        return self.mask == causal and self.within

    @cached_property
    def visible(self) -> Bool[Tensor, "batch 1 queries keys"]:
        """The rule evaluated: True where the query may see the key."""
        at, of = self.pairs
        return self.mask.sees(at, of)[:, None]

    @cached_property
    def pairs(self) -> tuple[Coordinates, Coordinates]:
        """Coordinates of queries [batch, queries, 1] and keys [batch, 1, keys], ready to be compared."""
        return self.at.map(lambda c: c[:, :, None]), self.of.map(lambda c: c[:, None, :])

    @cached_property
    def real(self) -> Bool[Tensor, "batch queries"]:
        """True where a query is a token, False where it is padding."""
        return self.at.segment > 0

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` makes, made by the first layer that asks for `key` and kept for the others.

        All that it depends on besides the view must be in the key.
        """
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
