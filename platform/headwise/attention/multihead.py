"""Multi-head attention: projections around a kernel. The one attention module that both products use."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headwise.attention.biases import Bias
from headwise.attention.caches import Cache, empty_cache
from headwise.attention.coordinates import Coordinates
from headwise.attention.kernels import Kernel, Recurrent, Softmax
from headwise.attention.masks import Mask, same_segment
from headwise.attention.positions import Rotary
from headwise.attention.view import View


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2), grouped-query when `kv_heads` is smaller than `heads`.

    Args:
        width: of the tokens that come in and go out.
        heads: query heads; must divide `width`.
        kv_heads: key and value heads, as many as `heads` where None; must divide `heads`.
        kernel: what is computed between queries, keys and values; `Softmax()` where None.
        rotary: rotates queries and keys by their position.
        bias: is added to the scores. With neither a bias nor `rotary`, order shows in the mask, the tokens and the groups of
            `Hierarchical` alone.

    Raises:
        ValueError: the numbers do not divide, `rotary` is for another width, or the kernel cannot add a bias.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        kernel: Kernel | None = None,
        rotary: Rotary | None = None,
        bias: Bias | None = None,
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        if width % heads:
            raise ValueError(f"width ({width}) must be divisible by heads ({heads})")
        if heads % kv_heads:
            raise ValueError(f"heads ({heads}) must be divisible by kv_heads ({kv_heads})")
        if rotary is not None and rotary.head_width != width // heads:
            raise ValueError(
                f"rotary turns heads of width {rotary.head_width}, these have width / heads = {width // heads}"
            )
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, width // heads
        self.query = nn.Linear(width, heads * self.head_width)
        self.key_value = nn.Linear(width, 2 * kv_heads * self.head_width)
        self.output = nn.Linear(heads * self.head_width, width)
        self.kernel: Kernel = Softmax() if kernel is None else kernel
        self.rotary, self.bias = rotary, bias
        self.check(same_segment)  # every kernel follows it, so this asks about the bias alone

    def check(self, mask: Mask) -> None:
        """Refuse a mask that this attention cannot follow; models ask when they are built.

        Raises:
            ValueError: its kernel cannot; the message says what would do.
        """
        self.kernel.check(mask, biased=self.bias is not None)

    def forward(
        self,
        tokens: Float[Tensor, "batch queries width"],
        view: View,
        source: Float[Tensor, "batch keys width"] | None = None,
    ) -> Float[Tensor, "batch queries width"]:
        """What each token gathers from those that it may see, or from `source` (cross-attention) where that is given.

        Raises:
            ValueError: `source` and the view do not belong together: one is of other tokens, and the other is not.
        """
        return self.recall(tokens, view, self.remember(self._seen(tokens, view, source), view.of))

    def remember(self, source: Float[Tensor, "batch keys width"], at: Coordinates) -> Cache:
        """Keys and values of tokens at `at`, to be looked at any number of times by `recall`."""
        pair = self.key_value(source).unflatten(-1, (2 * self.kv_heads, self.head_width)).transpose(1, 2)
        key, value = pair.chunk(2, 1)
        return Cache(key if self.rotary is None else self.rotary(key, at.position), value, at)

    def recall(
        self, tokens: Float[Tensor, "batch queries width"], view: View, cache: Cache
    ) -> Float[Tensor, "batch queries width"]:
        """What each token gathers from the keys and values in `cache`, whose coordinates are those of `view`.

        Raises:
            ValueError: there are more or fewer coordinates than tokens.
        """
        if tokens.shape[1] != view.at.position.shape[1]:
            raise ValueError(
                f"{tokens.shape[1]} tokens stand at {view.at.position.shape[1]} places: one for each is needed"
            )
        return self._merge(self.kernel(self._query(tokens, view.at), cache.key, cache.value, view, self.bias))

    def step(
        self, tokens: Float[Tensor, "batch queries width"], at: Coordinates, mask: Mask, cache: Any
    ) -> tuple[Float[Tensor, "batch queries width"], Any]:
        """The next tokens, given the past.

        Step by step equals all at once where the cache holds all that the mask and the kernel see of the past (padding takes
        slots too), and where no token sees ahead of its own step.

        Args:
            tokens: the new tokens.
            at: their coordinates; tokens with segment 0 are padding and are never seen.
            mask: the rule that the offline pass uses; the segment rule is added, since a cache has empty slots.
            cache: the past, as `empty_cache` began it and the last step left it; its size stays.

        Returns:
            The answer for the new tokens, and the cache for the next step.
        """
        fresh = self.remember(tokens, at)
        if isinstance(self.kernel, Recurrent):
            answer, cache = self.kernel.step(self._query(tokens, at), fresh.key, fresh.value, at, mask, cache)
            return self._merge(answer), cache
        past = cache.then(fresh)
        return self.recall(tokens, View(at, mask & same_segment, past.at), past), past.last(cache.key.shape[2])

    def weights(
        self,
        tokens: Float[Tensor, "batch queries width"],
        view: View,
        source: Float[Tensor, "batch keys width"] | None = None,
    ) -> Float[Tensor, "batch heads queries keys"]:
        """How much of each key every query takes: what the kernel makes of the identity matrix, being linear in values.

        Costs memory for all pairs: for plots and explanations.
        """
        key = self.remember(self._seen(tokens, view, source), view.of).key
        keys = key.shape[2]
        identity = torch.eye(keys, device=key.device, dtype=key.dtype).expand(*key.shape[:2], keys, keys)
        return self.kernel(self._query(tokens, view.at), key, identity, view, self.bias)

    def empty_cache(self, batch: int, slots: int) -> Any:
        """A cache of this module's shape, type and device that remembers nothing yet.

        A `Cache` of the last `slots` keys and values, or what a `Recurrent` kernel keeps, which is of one size whatever `slots`.
        """
        weight = self.key_value.weight
        if isinstance(self.kernel, Recurrent):
            return self.kernel.empty_memory(batch, self.heads, self.head_width, weight)
        return empty_cache(batch, self.kv_heads, slots, self.head_width, dtype=weight.dtype, device=weight.device)

    def _seen(self, tokens: Tensor, view: View, source: Tensor | None) -> Tensor:
        if source is not None and view.within:
            raise ValueError("source needs coordinates of its own: View(at, mask, of)")
        if source is None and not view.within:
            raise ValueError("the view is of other tokens: give them as source, or leave `of` out of View(at, mask)")
        return tokens if source is None else source

    def _query(self, tokens: Tensor, at: Coordinates) -> Tensor:
        query: Tensor = self.query(tokens).unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)
        return query if self.rotary is None else self.rotary(query, at.position)

    def _merge(self, mixtures: Tensor) -> Tensor:
        merged: Tensor = self.output(mixtures.transpose(1, 2).flatten(2))
        return merged
