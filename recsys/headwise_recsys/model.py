"""SASRec: a causal Transformer over a user's items, scored against the embeddings of all items."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import (
    Attention,
    Bias,
    Coordinates,
    Kernel,
    LearnedPositions,
    Rotary,
    Softmax,
    View,
    causal,
    rows,
    same_segment,
)
from headwise.transformer import Block, Encoder, FeedForward, SwiGLU


class SASRec(nn.Module):
    """Self-attentive sequential recommendation (Kang & McAuley 2018), with pre-norm blocks and tied item embeddings.

    Item 0 is padding and is never recommended.

    Args:
        items: how many items there are.
        width: of the embeddings.
        encoder: blocks of attention over `width`.
        window: how many items of a history the model looks at, at most.
        positions: gives the vector that is added to each item for its position; without it the encoder must know order itself.
        dropout: on the embedded history.

    Raises:
        ValueError: the encoder cannot follow the mask of a history, causal and within its own segment.
    """

    def __init__(
        self,
        items: int,
        width: int,
        encoder: Encoder,
        *,
        window: int,
        positions: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        encoder.check(causal & same_segment)
        self.items, self.window = items, window
        self.embedding = nn.Embedding(items + 1, width, padding_idx=0)
        self.positions = positions
        self.dropout = nn.Dropout(dropout)
        self.encoder = encoder
        with torch.no_grad():
            nn.init.normal_(self.embedding.weight, std=width**-0.5)
            self.embedding.weight[0] = 0

    def forward(self, history: Int[Tensor, "batch time"], at: Coordinates) -> Float[Tensor, "batch time width"]:
        """What the model expects next, at every position.

        Args:
            history: items, in rows that may hold several packed histories.
            at: where each of them stands, at positions below the window; a row's histories are told apart by their segment.
        """
        hidden: Tensor = self.encoder(self._embed(history, at), View(at, causal & same_segment))
        return hidden

    def expects(
        self, history: Int[Tensor, "batch time"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch width"]:
        """What the model expects after each whole history, of rows right-padded with 0.

        Raises:
            ValueError: the rows are longer than the window.
        """
        at = self._coordinates(history, lengths)
        hidden: Tensor = self.encoder(self._embed(history, at), View(at, causal))
        last = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, hidden.shape[2])
        return hidden.gather(1, last).squeeze(1)

    def vectors(self, items: Int[Tensor, "..."] | None = None) -> Float[Tensor, "... width"]:
        """The vectors of `items`, or of the whole catalogue, items 1..V in order, where None."""
        vectors: Tensor = self.embedding.weight[1:] if items is None else self.embedding(items)
        return vectors

    def scores(self, expected: Float[Tensor, "batch width"]) -> Float[Tensor, "batch items+1"]:
        """The score of every item, padding (item 0) included."""
        return F.linear(expected, self.embedding.weight)

    def attention_weights(self, history: Int[Tensor, "batch time"], lengths: Int[Tensor, " batch"]) -> list[Tensor]:
        """Per block, [batch, heads, time, time]: how much of each item every position takes.

        Raises:
            ValueError: the rows are longer than the window.
        """
        at = self._coordinates(history, lengths)
        return self.encoder.weights(self._embed(history, at), View(at, causal & same_segment))

    def _coordinates(self, history: Tensor, lengths: Tensor) -> Coordinates:
        if history.shape[1] > self.window:
            raise ValueError(
                f"history holds {history.shape[1]} items, the model looks at {self.window} (its window): "
                f"give the last {self.window}"
            )
        return rows(lengths, history.shape[1])

    def _embed(self, history: Tensor, at: Coordinates) -> Tensor:
        tokens = self.embedding(history)
        if self.positions is not None:
            tokens = tokens + self.positions(at.position).to(tokens.dtype)
        embedded: Tensor = self.dropout(tokens)
        return embedded


def sasrec(
    items: int,
    *,
    window: int,
    width: int = 64,
    blocks: int = 2,
    heads: int = 2,
    hidden: int | None = None,
    kernel: Callable[[], Kernel] = Softmax,
    positions: nn.Module | None = None,
    rotary: bool = False,
    bias: Callable[[], Bias] | None = None,
    gated: bool = False,
    swiglu: bool = False,
    dropout: float = 0.2,
) -> SASRec:
    """A SASRec from its numbers.

    Args:
        items: how many items there are.
        window: how many items of a history the model looks at, at most.
        width: of the embeddings and blocks.
        blocks: how many.
        heads: of each block's attention.
        hidden: width of the feed-forward's inside; 4 x width where None.
        kernel: makes each block's kernel.
        positions: gives the vectors that are added to the items; learned ones where None and nothing else knows order.
        rotary: rotary positions.
        bias: makes each block's bias.
        gated: gates on the residual branches (LiGR).
        swiglu: SwiGLU in place of a GELU feed-forward.
        dropout: on the embedded history and on every branch.
    """
    inside = 4 * width if hidden is None else hidden

    def block() -> Block:
        attention = Attention(
            width,
            heads,
            kernel=kernel(),
            rotary=Rotary(width // heads) if rotary else None,
            bias=None if bias is None else bias(),
        )
        feed_forward = SwiGLU(width, inside, dropout) if swiglu else FeedForward(width, inside, nn.GELU(), dropout)
        return Block(width, attention, feed_forward, dropout=dropout, gated=gated)

    if positions is None and not rotary and bias is None:
        positions = LearnedPositions(window, width)
    encoder = Encoder([block() for _ in range(blocks)], width)
    return SASRec(items, width, encoder, window=window, positions=positions, dropout=dropout)
