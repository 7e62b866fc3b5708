"""What attention remembers of the past, so that a step costs one step: tensors in, tensors out, as an ONNX graph has them."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.attention.coordinates import Coordinates


class Cache(NamedTuple):
    """The last keys and values and where they stood; an empty slot has segment 0, like padding.

    Attributes:
        key: keys, already rotated.
        value: values.
        at: their coordinates.
    """

    key: Float[Tensor, "batch kv_heads slots head_width"]
    value: Float[Tensor, "batch kv_heads slots head_width"]
    at: Coordinates

    def then(self, later: "Cache") -> "Cache":
        """These slots followed by later ones."""
        return Cache(
            torch.cat([self.key, later.key], 2), torch.cat([self.value, later.value], 2), self.at.then(later.at)
        )

    def last(self, slots: int) -> "Cache":
        """The latest `slots` slots."""
        start = torch.sym_max(0, self.key.shape[2] - slots)
        return Cache(self.key[:, :, start:], self.value[:, :, start:], self.at.map(lambda c: c[:, start:]))


def empty_cache(
    batch: int,
    kv_heads: int,
    slots: int,
    head_width: int,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Cache:
    """A cache that remembers nothing yet, in torch's default type and place where none is given."""
    nothing = torch.zeros(batch, kv_heads, slots, head_width, dtype=dtype, device=device)
    nowhere = torch.zeros(batch, slots, dtype=torch.long, device=device)
    return Cache(nothing, nothing.clone(), Coordinates(nowhere, nowhere.clone(), nowhere.clone()))
