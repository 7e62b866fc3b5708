"""Who may look at whom, as a rule on coordinates instead of a tensor.

A mask is a predicate on the coordinates of a query and a key, with a bound on how far it reaches. A kernel asks it for what
it needs; offline, padded, packed and streaming attention evaluate the same rule. True means may be seen.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import and_

import torch
from torch import Tensor

from headwise.attention.coordinates import Coordinates


@dataclass(frozen=True)
class Mask:
    """A rule that says which keys a query may see, and what a kernel may rely on when it leaves pairs out.

    Two masks are equal where they were made from the same functions, so layers that are to share a plan are given one object.

    Attributes:
        sees: from the coordinates of queries and keys, broadcast against each other, to True where the key may be seen.
        back: how many positions behind a query a visible key can lie at most.
        ahead: how many positions ahead of a query a visible key can lie at most.
        stride: the distance of a query from a visible key is a multiple of it; 0 where no two positions differ.
        chunk: positions come in chunks of so many, beyond whose end nothing that looks ahead may look; 0 where there are none.
        leading: pairs with one of a sequence's first `leading` positions, on either side, may lie outside these bounds.
        name: for people.
        parts: the rules that this one is the conjunction of; none where it is one rule.
    """

    sees: Callable[[Coordinates, Coordinates], Tensor]
    back: float = math.inf
    ahead: float = math.inf
    stride: int = 1
    chunk: int = 0
    leading: int = 0
    name: str = "mask"
    parts: tuple["Mask", ...] = ()

    @property
    def terms(self) -> tuple["Mask", ...]:
        """The rules that must all allow a pair, this one alone where it is not a conjunction."""
        return self.parts or (self,)

    @property
    def is_plain(self) -> bool:
        """Whether it leaves out nothing but the future and other sequences, which kernels that sum up the past can follow."""
        return set(self.terms) <= {causal, same_segment}

    def __and__(self, other: "Mask") -> "Mask":
        """Visible where both rules allow it."""
        terms = tuple(dict.fromkeys(self.terms + other.terms))
        if len(terms) == len(self.terms):
            return self
        return Mask(
            lambda query, key: reduce(and_, (term.sees(query, key) for term in terms)),
            min(self.back, other.back),
            min(self.ahead, other.ahead),
            math.lcm(self.stride, other.stride),
            math.gcd(self.chunk, other.chunk),
            max(self.leading, other.leading),
            " & ".join(term.name for term in terms),
            terms,
        )

    def __or__(self, other: "Mask") -> "Mask":
        """Visible where either rule allows it."""
        return Mask(
            lambda query, key: self.sees(query, key) | other.sees(query, key),
            max(self.back, other.back),
            max(self.ahead, other.ahead),
            math.gcd(self.stride, other.stride),
            math.gcd(self.chunk, other.chunk),
            max(self.leading, other.leading),
            f"({self.name} | {other.name})",
        )

    def __repr__(self) -> str:
        return self.name


causal = Mask(lambda query, key: key.position <= query.position, ahead=0, name="causal")
"""No key after the query. Positions must grow along a row, as those of `rows` do.

Alone, it is for rows of one sequence each, right-padded: Softmax has a faster path for it, which looks at nothing but the order.
Rows of several sequences need `causal & same_segment`.
"""

same_segment = Mask(lambda query, key: (key.segment == query.segment) & (key.segment > 0), name="same segment")
"""Only keys of the query's own sequence: this is what keeps padding and packed neighbours out."""


def window(back: int, ahead: int = 0) -> Mask:
    """Keys from `back` positions behind the query to `ahead` positions ahead of it: a sliding window."""

    def sees(query: Coordinates, key: Coordinates) -> Tensor:
        behind = query.position - key.position
        return (behind <= back) & (behind >= -ahead)

    return Mask(sees, back, ahead, name=f"window({back}, ahead={ahead})")


def chunk(size: int, left: int) -> Mask:
    """Keys of the query's own chunk of `size` positions and of the `left` positions before that chunk.

    The mask of streaming recognition: what a query sees is known once its chunk is complete. With nothing on the left it
    is block-local attention.
    """

    def sees(query: Coordinates, key: Coordinates) -> Tensor:
        start = query.position // size * size
        return (key.position >= start - left) & (key.position < start + size)

    return Mask(sees, back=left + size - 1, ahead=size - 1, chunk=size, name=f"chunk({size}, left={left})")


def every(stride: int) -> Mask:
    """Keys at a multiple of `stride` positions from the query: `window(...) & every(4)` is a dilated window."""
    return Mask(
        lambda query, key: (query.position - key.position) % stride == 0, stride=stride, name=f"every({stride})"
    )


def leading(count: int) -> Mask:
    """The first `count` positions of a sequence are seen by all and see all: `window(...) | leading(1)` has a global token."""
    return Mask(
        lambda query, key: (query.position < count) | (key.position < count),
        back=0,
        ahead=0,
        stride=0,  # of no distances at all: gcd(0, s) = s leaves a pattern that it joins its stride
        leading=count,
        name=f"leading({count})",
    )


def masked_softmax(scores: Tensor, visible: Tensor) -> Tensor:
    """Softmax over the last dimension, of what may be seen alone; zeros where nothing may, for which -inf would give NaN."""
    return scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(-1) * visible
