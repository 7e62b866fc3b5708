"""Sparse attention: each query meets only the keys that a pattern lets it reach."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headwise.attention.biases import Bias
from headwise.attention.kernels._blocks import Layout, gather, layout, locate, restore, spread
from headwise.attention.kernels._global_tokens import GlobalTokens, global_tokens
from headwise.attention.kernels.softmax import Softmax
from headwise.attention.masks import Mask, same_segment
from headwise.attention.view import View

_BLOCK = 64  # queries of a block; more waste pairs that the pattern hides, fewer gather the same keys more often


class Window(nn.Module):
    """Softmax over the keys that a pattern reaches (Longformer, Beltagy et al. 2020; Sparse Transformer, Child et al. 2019).

    The pattern is a mask of bounded reach, on top of the mask that the tokens come with:

        Window(window(127))                     sliding: the last 128 tokens
        Window(window(64, ahead=64))            sliding, both ways
        Window(chunk(64, left=0))               block-local
        Window(window(508) & every(4))          dilated: every fourth of the last 509
        Window(window(127) | leading(1))        sliding, and the first token sees all and is seen by all

    Time and memory are length x reach. Sequences are kept apart whatever the mask says. Between other tokens than themselves
    (caches, cross-attention), where the past is already short, every pair is evaluated and the pattern is part of the mask;
    it compares positions, each in its own sequence. Global tokens share the projections of the others, where Longformer gives
    them their own. A cache must hold
    what the pattern reaches, with `leading` the whole past; an exported graph with `leading` takes one sequence a row. Layers
    that share a pattern object share its plan.

    Args:
        pattern: which keys a query may reach.
        block: queries that are evaluated together.

    Raises:
        ValueError: the pattern reaches without bound.
    """

    def __init__(self, pattern: Mask, *, block: int = _BLOCK) -> None:
        super().__init__()
        if math.isinf(pattern.back) or math.isinf(pattern.ahead):
            raise ValueError(
                f"pattern ({pattern}) reaches {pattern.back} back and {pattern.ahead} ahead: "
                "a window needs bounds, add `& window(back, ahead)`"
            )
        self.pattern, self.block = pattern, block
        self.softmax = Softmax()

    def check(self, mask: Mask, *, biased: bool) -> None:
        """Follows every mask and adds every bias."""

    def forward(
        self,
        query: Float[Tensor, "batch heads queries head_width"],
        key: Float[Tensor, "batch kv_heads keys head_width"],
        value: Float[Tensor, "batch kv_heads keys value_width"],
        view: View,
        bias: Bias | None = None,
    ) -> Float[Tensor, "batch heads queries value_width"]:
        """As every kernel."""
        if not view.within:
            seen = view.once(self.pattern, lambda: self._restricted(view))
            answer: Tensor = self.softmax(query, key, value, seen, bias)
            return answer
        plan, seen, globals_ = view.once((self.pattern, self.block), lambda: self._plan(view))
        keys, values = gather(key, plan.keys), gather(value, plan.keys)
        if globals_ is not None:
            count = plan.queries.shape[0]
            keys, values = globals_.before(keys, key, count), globals_.before(values, value, count)
        blocks = self.softmax(gather(query, plan.queries), keys, values, seen, bias)
        answer = restore(blocks, plan, query.shape[0])
        if globals_ is not None:
            theirs = self.softmax(globals_.of(query), key, value, globals_.view, bias)
            answer = globals_.put(answer, theirs)
        return answer

    def _restricted(self, view: View) -> View:
        return View(view.at, view.mask & same_segment & self.pattern, view.of)

    def _plan(self, view: View) -> tuple[Layout, View, GlobalTokens | None]:
        rule = view.mask & same_segment & self.pattern
        time, back, ahead = view.at.position.shape[1], int(rule.back), int(rule.ahead)
        if not torch.compiler.is_exporting():  # a graph's rows have no length yet
            back, ahead = min(back, time), min(ahead, time)
        plan = layout(time, self.block, back=back, ahead=ahead, stride=max(1, rule.stride), like=view.at.position)
        at, of = locate(view.at, plan.queries), locate(view.at, plan.keys)
        if not rule.leading:
            return plan, View(at, rule, of), None
        globals_ = global_tokens(view.at, rule)
        # Global tokens stand before every block's own keys, and there alone.
        own = of._replace(segment=of.segment.masked_fill(of.position < rule.leading, 0))
        theirs = globals_.at.map(lambda c: spread(c, plan.queries.shape[0]))
        return plan, View(at, rule, theirs.then(own)), globals_
