"""The half of a Transformer that looks at two things: at its own tokens and at a source."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from headwise.attention import Attention, Cache, Coordinates, Mask, View, same_segment
from headwise.transformer.block import Residual


class DecoderState(NamedTuple):
    """What a decoder block remembers from step to step.

    Attributes:
        attention: the past of the decoder's own tokens, as `Attention.empty_cache` began it.
        source: keys and values of the source; they stay as they are.
    """

    attention: Any
    source: Cache


class DecoderWeights(NamedTuple):
    """Where the tokens of one decoder block look.

    Attributes:
        attention: at one another.
        across: at the source.
    """

    attention: Float[Tensor, "batch heads time time"]
    across: Float[Tensor, "batch heads time keys"]


class DecoderBlock(nn.Module):
    """Attention among the tokens -> attention to a source -> feed-forward, each residual (Vaswani et al. 2017, section 3.1).

    Pre-norm, as all blocks here; the paper norms after each residual. The source is used as it comes, so it should be normed,
    as an `Encoder` leaves it.

    Args:
        width: of the tokens and of the source.
        attention: of the tokens to one another.
        across: of the tokens to the source.
        feed_forward: acts on one token at a time.
        dropout: on the answer of each branch.
    """

    def __init__(
        self, width: int, attention: Attention, across: Attention, feed_forward: nn.Module, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention = Residual(attention, width, dropout=dropout)
        self.across = Residual(_Recall(across), width, dropout=dropout)
        self.feed_forward = Residual(feed_forward, width, dropout=dropout)

    def check(self, mask: Mask, across: Mask = same_segment) -> None:
        """Whether its attentions can follow the masks among the tokens and to the source.

        Raises:
            ValueError: one of them cannot; the message says what would do.
        """
        self._own.check(mask)
        self._source.check(across)

    def forward(
        self,
        tokens: Float[Tensor, "batch time width"],
        view: View,
        source: Float[Tensor, "batch keys width"],
        across: View,
    ) -> Float[Tensor, "batch time width"]:
        """All tokens at once: `view` says how they see one another, `across` how they see the source."""
        return self._after(self.attention(tokens, view), across, self._source.remember(source, across.of))

    def step(
        self, tokens: Float[Tensor, "batch time width"], at: Coordinates, mask: Mask, state: DecoderState, across: View
    ) -> tuple[Float[Tensor, "batch time width"], DecoderState]:
        """The next tokens, given the past and the source in `state`; the answer, and the state for the next step."""
        tokens, cache = self.attention.step(tokens, at, mask, state.attention)
        return self._after(tokens, across, state.source), state._replace(attention=cache)

    def remember(self, source: Float[Tensor, "batch keys width"], of: Coordinates, slots: int) -> DecoderState:
        """A state that knows the source and no token yet, with room for the keys of `slots` tokens."""
        return DecoderState(self._own.empty_cache(source.shape[0], slots), self._source.remember(source, of))

    def weights(
        self,
        tokens: Float[Tensor, "batch time width"],
        view: View,
        source: Float[Tensor, "batch keys width"],
        across: View,
    ) -> DecoderWeights:
        """The weights with which `forward` would mix these tokens, and this source into them."""
        own = self._own.weights(self.attention.norm(tokens), view)
        tokens = self.attention(tokens, view)
        return DecoderWeights(own, self._source.weights(self.across.norm(tokens), across, source))

    def _after(self, tokens: Tensor, across: View, source: Cache) -> Tensor:
        answer: Tensor = self.feed_forward(self.across(tokens, across, source))
        return answer

    @property
    def _own(self) -> Attention:
        return self.attention.branch  # type: ignore[return-value]

    @property
    def _source(self) -> Attention:
        return self.across.branch.attention  # type: ignore[return-value]


class Decoder(nn.Module):
    """Decoder blocks one after another, and a norm at the end.

    Tokens that see only those before them (`causal`) are written one by one; tokens that all see each other (`same_segment`
    alone) are a set, such as the learned queries of DETR (Carion et al. 2020).

    Args:
        blocks: the blocks, from input to output.
        width: of the tokens.
    """

    def __init__(self, blocks: Iterable[DecoderBlock], width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)

    def check(self, mask: Mask, across: Mask = same_segment) -> None:
        """Whether every block can follow the masks among the tokens and to the source; models ask when they are built.

        Raises:
            ValueError: the kernel of one cannot; the message says what would do.
        """
        for block in self.blocks:
            block.check(mask, across)  # type: ignore[operator]

    def forward(
        self,
        tokens: Float[Tensor, "batch time width"],
        view: View,
        source: Float[Tensor, "batch keys width"],
        across: View,
    ) -> Float[Tensor, "batch time width"]:
        """All tokens at once; every block looks through the same views.

        Args:
            tokens: the decoder's own.
            view: how they see one another.
            source: what they look at, as an `Encoder` leaves it.
            across: how they see the source: its queries stand where those of `view` do, its keys are the source's.
        """
        for block in self.blocks:
            tokens = block(tokens, view, source, across)
        answer: Tensor = self.norm(tokens)
        return answer

    def remember(self, source: Float[Tensor, "batch keys width"], of: Coordinates, slots: int) -> list[DecoderState]:
        """One state a block that knows the source at `of` and no token yet, each with room for the keys of `slots` tokens."""
        return [block.remember(source, of, slots) for block in self.blocks]  # type: ignore[operator]

    def step(
        self,
        tokens: Float[Tensor, "batch time width"],
        at: Coordinates,
        mask: Mask,
        states: Sequence[DecoderState],
        across: Mask = same_segment,
    ) -> tuple[Float[Tensor, "batch time width"], list[DecoderState]]:
        """The next tokens, given one state a block; step by step equals all at once where `slots` hold all that `mask` sees.

        Args:
            tokens: the new tokens.
            at: their coordinates.
            mask: how tokens see one another; the segment rule is added, since a cache has empty slots.
            states: as `remember` began them and the last step left them.
            across: how tokens see the source.

        Returns:
            The answer for the new tokens, and the states for the next step.
        """
        after = []
        sight = View(at, across, states[0].source.at) if states else None
        for block, state in zip(self.blocks, states, strict=True):
            tokens, state = block.step(tokens, at, mask, state, sight)  # type: ignore[operator]
            after.append(state)
        return self.norm(tokens), after

    def weights(
        self,
        tokens: Float[Tensor, "batch time width"],
        view: View,
        source: Float[Tensor, "batch keys width"],
        across: View,
    ) -> list[DecoderWeights]:
        """The attention weights of every block, from input to output."""
        weights = []
        for block in self.blocks:
            weights.append(block.weights(tokens, view, source, across))  # type: ignore[operator]
            tokens = block(tokens, view, source, across)
        return weights


class _Recall(nn.Module):
    # What a `Residual` calls: attention to keys and values that are remembered already.
    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, tokens: Tensor, view: View, source: Cache) -> Tensor:
        return self.attention.recall(tokens, view, source)
