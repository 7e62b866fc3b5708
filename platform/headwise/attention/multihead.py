"""Multi-head attention: projections around a kernel. The one attention module that both products use."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headwise.attention.caches import Cache, empty_cache
from headwise.attention.coordinates import Coordinates
from headwise.attention.kernels import Kernel, softmax
from headwise.attention.masks import Mask, View, same_segment
from headwise.attention.positions import Rotary


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2), grouped-query when `kv_heads` is smaller than `heads`.

    Args:
        width: of the tokens that come in and go out.
        heads: query heads; must divide `width`.
        kv_heads: key and value heads, as many as `heads` where None; must divide `heads`.
        kernel: what is computed between queries, keys and values.
        rotary: rotates queries and keys by their position; without it attention is blind to order but for the mask.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        kernel: Kernel = softmax,
        rotary: Rotary | None = None,
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        if width % heads:
            raise ValueError(f"width ({width}) must be divisible by heads ({heads})")
        if heads % kv_heads:
            raise ValueError(f"heads ({heads}) must be divisible by kv_heads ({kv_heads})")
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, width // heads
        self.query = nn.Linear(width, heads * self.head_width)
        self.key_value = nn.Linear(width, 2 * kv_heads * self.head_width)
        self.output = nn.Linear(heads * self.head_width, width)
        self.kernel = kernel
        self.rotary = rotary

    def forward(
        self,
        tokens: Float[Tensor, "batch queries width"],
        view: View,
        source: Float[Tensor, "batch keys width"] | None = None,
    ) -> Float[Tensor, "batch queries width"]:
        """What each token gathers from those that it may see, or from `source` (cross-attention) where that is given."""
        query, key, value = self._project(tokens, tokens if source is None else source, view)
        return self._merge(self.kernel(query, key, value, view))

    def step(
        self, tokens: Float[Tensor, "batch queries width"], at: Coordinates, mask: Mask, cache: Cache
    ) -> tuple[Float[Tensor, "batch queries width"], Cache]:
        """The next tokens, given the past in `cache`; step by step equals all at once where the cache holds all that `mask` sees.

        Args:
            tokens: the new tokens.
            at: their coordinates; tokens with segment 0 are padding and are never seen.
            mask: the rule that the offline pass uses; the segment rule is added, since a cache has empty slots.
            cache: the past; it keeps its number of slots.

        Returns:
            The answer for the new tokens, and the cache for the next step.
        """
        query, key, value = self._project(tokens, tokens, View(at, mask))
        past = cache.then(Cache(key, value, at))
        view = View(at, mask & same_segment, past.at)
        return self._merge(self.kernel(query, past.key, past.value, view)), past.last(cache.key.shape[2])

    def weights(
        self,
        tokens: Float[Tensor, "batch queries width"],
        view: View,
        source: Float[Tensor, "batch keys width"] | None = None,
    ) -> Float[Tensor, "batch heads queries keys"]:
        """How much of each key every query takes. Costs memory for all pairs: for plots and explanations."""
        query, key, _ = self._project(tokens, tokens if source is None else source, view)
        keys = key.shape[2]
        identity = torch.eye(keys, device=key.device, dtype=key.dtype).expand(*key.shape[:2], keys, keys)
        return self.kernel(query, key, identity, view)

    def empty_cache(self, batch: int, slots: int) -> Cache:
        """A cache of this module's shape, type and device that remembers nothing yet."""
        weight = self.key_value.weight
        return empty_cache(batch, self.kv_heads, slots, self.head_width, dtype=weight.dtype, device=weight.device)

    def _project(self, tokens: Tensor, source: Tensor, view: View) -> tuple[Tensor, Tensor, Tensor]:
        query = self.query(tokens).unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)
        pair = self.key_value(source).unflatten(-1, (2 * self.kv_heads, self.head_width)).transpose(1, 2)
        key, value = pair.chunk(2, 1)
        if self.rotary is not None:
            query, key = self.rotary(query, view.at.position), self.rotary(key, view.of.position)
        return query, key, value

    def _merge(self, mixtures: Tensor) -> Tensor:
        merged: Tensor = self.output(mixtures.transpose(1, 2).flatten(2))
        return merged
