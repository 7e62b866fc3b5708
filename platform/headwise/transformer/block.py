"""A block: residual branches one after another, each with its norm before it."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headwise.attention import Attention, Cache, Coordinates, Mask, Sums, View
from headwise.transformer.convolution import DepthwiseConvolution
from headwise.transformer.dropout import Dropout


class Residual(nn.Module):
    """x + scale * gate(x) * dropout(branch(norm(x))): pre-norm (Xiong et al. 2020), with an optional gate.

    The gate is sigmoid(W x), as in LiGR (Borisyuk et al. 2025); it starts at 1/2 everywhere.

    Args:
        branch: what is added; called with the normed tokens and whatever else `forward` is given.
        width: of the tokens.
        dropout: on the branch's answer.
        gated: whether a token decides how much of the answer it lets in.
        scale: a constant factor.
    """

    def __init__(
        self, branch: nn.Module, width: int, *, dropout: float = 0.0, gated: bool = False, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.norm, self.branch = nn.LayerNorm(width), branch
        self.dropout, self.scale = Dropout(dropout), scale
        self.gate = nn.Linear(width, width) if gated else None
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

    def forward(self, tokens: Float[Tensor, "batch time width"], *context: Any) -> Float[Tensor, "batch time width"]:
        """The tokens with the branch's answer added."""
        return self._add(tokens, self.branch(self.norm(tokens), *context))

    def step(self, tokens: Float[Tensor, "batch time width"], *context: Any) -> tuple[Tensor, Any]:
        """The same for the next tokens, by the branch's own `step`; also what that remembers."""
        answer, memory = self.branch.step(self.norm(tokens), *context)  # type: ignore[operator]
        return self._add(tokens, answer), memory

    def _add(self, tokens: Tensor, answer: Tensor) -> Tensor:
        answer = self.dropout(answer)
        if self.scale != 1:
            answer = answer * self.scale
        if self.gate is not None:
            answer = answer * torch.sigmoid(self.gate(tokens))
        return tokens + answer


class State(NamedTuple):
    """What a block remembers from step to step.

    Attributes:
        attention: what its attention remembers: past keys and values, or what a recurrent kernel keeps of them.
        convolution: the last inputs of the convolution; of no width where the block has none.
    """

    attention: Cache | Sums
    convolution: Float[Tensor, "batch back width"]


class Block(nn.Module):
    """[half a feed-forward] -> attention -> [convolution] -> feed-forward, each residual.

    Without the parts in brackets it is a pre-norm Transformer encoder block; with them a Conformer block (Gulati et al.
    2020), whose feed-forwards count half and which closes with a norm.

    Args:
        width: of the tokens.
        attention: the attention.
        feed_forward: acts on one token at a time.
        convolution: looks at neighbours; None for a plain Transformer block.
        opening: a first feed-forward before the attention; None for a plain Transformer block.
        dropout: on the answer of each branch.
        gated: whether every branch has a gate.
    """

    def __init__(
        self,
        width: int,
        attention: Attention,
        feed_forward: nn.Module,
        *,
        convolution: DepthwiseConvolution | None = None,
        opening: nn.Module | None = None,
        dropout: float = 0.0,
        gated: bool = False,
    ) -> None:
        super().__init__()

        def residual(branch: nn.Module, scale: float = 1.0) -> Residual:
            return Residual(branch, width, dropout=dropout, gated=gated, scale=scale)

        half = 1.0 if opening is None else 0.5
        self.opening = None if opening is None else residual(opening, half)
        self.attention = residual(attention)
        self.convolution = None if convolution is None else residual(convolution)
        self.feed_forward = residual(feed_forward, half)
        self.closing = nn.Identity() if opening is None else nn.LayerNorm(width)

    def check(self, mask: Mask) -> None:
        """Whether its attention can follow a mask.

        Raises:
            ValueError: it cannot.
        """
        self._attention.check(mask)

    def forward(self, tokens: Float[Tensor, "batch time width"], view: View) -> Float[Tensor, "batch time width"]:
        """All tokens at once."""
        if self.opening is not None:
            tokens = self.opening(tokens)
        tokens = self.attention(tokens, view)
        if self.convolution is not None:
            tokens = self.convolution(tokens, view)
        closed: Tensor = self.closing(self.feed_forward(tokens))
        return closed

    def step(
        self, tokens: Float[Tensor, "batch time width"], at: Coordinates, mask: Mask, state: State
    ) -> tuple[Float[Tensor, "batch time width"], State]:
        """The next tokens, given the past in `state`; the answer, and the state for the next step."""
        if self.opening is not None:
            tokens = self.opening(tokens)
        tokens, cache = self.attention.step(tokens, at, mask, state.attention)
        past = state.convolution
        if self.convolution is not None:
            tokens, past = self.convolution.step(tokens, View(at, mask), past)
        return self.closing(self.feed_forward(tokens)), State(cache, past)

    def weights(self, tokens: Float[Tensor, "batch time width"], view: View) -> Float[Tensor, "batch heads time time"]:
        """The attention weights with which `forward` would mix these tokens."""
        if self.opening is not None:
            tokens = self.opening(tokens)
        return self._attention.weights(self.attention.norm(tokens), view)

    def empty_state(self, batch: int, slots: int) -> State:
        """A state that remembers nothing yet, with room for `slots` keys."""
        back, width = 0, 0
        if self.convolution is not None:
            convolution: DepthwiseConvolution = self.convolution.branch  # type: ignore[assignment]
            back, width = convolution.back, convolution.depthwise.in_channels
        nothing = self._attention.query.weight.new_zeros(batch, back, width)
        return State(self._attention.empty_cache(batch, slots), nothing)

    @property
    def _attention(self) -> Attention:
        attention: Attention = self.attention.branch  # type: ignore[assignment]
        return attention
