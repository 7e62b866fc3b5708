"""SASRec: a causal Transformer over a user's items, scored against the embeddings of all items."""

import copy
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

import torch
from jaxtyping import Bool, Float, Int
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
from headwise.transformer import Block, Dropout, Encoder, FeedForward, State, SwiGLU
from headwise_recsys.model.content import Content
from headwise_recsys.model.event_types import EventTypes
from headwise_recsys.model.heads import Cosine, Dot, Head, Transition
from headwise_recsys.model.hstu import HSTU
from headwise_recsys.model.items import Items
from headwise_recsys.model.query_time import QueryTime
from headwise_recsys.model.user import User

CONTEXT: Final = (
    "at",
    "types",
    "user",
)  # what may be known of a token beside item and place, in the order of a graph's inputs
NOTHING: Final[Mapping[str, Tensor]] = MappingProxyType({})


class SASRec(nn.Module):
    """Self-attentive sequential recommendation (Kang & McAuley 2018), with pre-norm blocks and tied item embeddings.

    Item 0 is padding and is never recommended.

    Args:
        items: how many items there are.
        width: of the embeddings.
        encoder: blocks of attention over `width`.
        window: how many items of a history the model looks at, at most.
        head: how an item is compared with what is expected; `Dot()` where None.
        positions: gives the vector that is added to each item for its position; without it the encoder must know order itself.
        dropout: on the embedded history.
        timed: whether the encoder looks at the times of events.
        context: adds to each token what else is known of it, by the names of `CONTEXT`: `at`, when the next item is asked
            for; `types`, what was done; `user`, who the user is.
        repeats: whether items of the history may be recommended again.
        content: makes an item's vector from its features too; see `Items`.
        chosen: with `content`, which items were chosen in training, row 0 for padding; all where None.

    Attributes:
        beside: the names of what is read beside a history, in the order of `expects`.

    Raises:
        ValueError: the encoder cannot follow the mask of a history, causal and within its own segment; or a context has no
            such name.
    """

    def __init__(
        self,
        items: int,
        width: int,
        encoder: Encoder,
        *,
        window: int,
        head: Head | None = None,
        positions: nn.Module | None = None,
        dropout: float = 0.0,
        timed: bool = False,
        context: Mapping[str, nn.Module] | None = None,
        repeats: bool = False,
        content: Content | None = None,
        chosen: Bool[Tensor, " items"] | None = None,
    ) -> None:
        super().__init__()
        encoder.check(causal & same_segment)
        self.items, self.window, self.repeats = items, window, repeats
        self.context = nn.ModuleDict(context)
        if unknown := self.context.keys() - set(CONTEXT):
            raise ValueError(f"context may hold {', '.join(CONTEXT)}, not {', '.join(sorted(unknown))}")
        self.timed = timed or "at" in self.context
        self.beside = (*(("times",) if self.timed else ()), *(name for name in CONTEXT if name in self.context))
        own = nn.Embedding(items + 1, width, padding_idx=0)
        self.embedding: nn.Embedding | Items = own if content is None else Items(own, content, chosen=chosen)
        self.positions = positions
        self.dropout = Dropout(dropout)
        self.encoder = encoder
        self.head: Head = Dot() if head is None else head
        with torch.no_grad():
            nn.init.normal_(own.weight, std=width**-0.5)
            own.weight[0] = 0

    def forward(
        self, history: Int[Tensor, "batch time"], at: Coordinates, context: Mapping[str, Tensor] = NOTHING
    ) -> Float[Tensor, "batch time score_width"]:
        """What the model expects next, at every position.

        Args:
            history: items, in rows that may hold several packed histories.
            at: where each of them stands, at positions below the window; a row's histories are told apart by their segment.
            context: what each part of the model's context takes, by its name.
        """
        hidden = self.encoder(self._embed(history, at, context), View(at, causal & same_segment))
        return self.head.expected(hidden, history)

    def expects(
        self,
        history: Int[Tensor, "batch time"],
        lengths: Int[Tensor, " batch"],
        *beside: Tensor,
    ) -> Float[Tensor, "batch score_width"]:
        """What the model expects after each whole history, of rows right-padded with 0.

        Args:
            history: items, oldest first.
            lengths: how many items each row holds.
            beside: what the model reads beside them, in the order of its `beside`: `times` of the events in seconds
                [batch, time]; `at`, when the next item is asked for [batch]; `types` of the events [batch, time]; `user`, what
                is known of whoever asks [batch, size].

        Raises:
            ValueError: the rows are longer than the window, or something that the model reads is not given.
        """
        at, context = self._known(history, lengths, beside)
        hidden: Tensor = self.encoder(self._embed(history, at, context), View(at, causal))
        last = (lengths - 1).clamp(min=0)[:, None]
        hidden = hidden.gather(1, last[:, :, None].expand(-1, 1, hidden.shape[2])).squeeze(1)
        return self.head.expected(hidden, history.gather(1, last).squeeze(1))

    def step(
        self,
        items: Int[Tensor, "batch time"],
        at: Coordinates,
        states: Sequence[State],
        context: Mapping[str, Tensor] = NOTHING,
    ) -> tuple[Float[Tensor, "batch time score_width"], list[State]]:
        """What the model expects after each of the next items, given one state a block; and the states for the next step."""
        hidden, after = self.encoder.step(self._embed(items, at, context), at, causal, states)
        return self.head.expected(hidden, items), after

    def vectors(self, items: Int[Tensor, "..."] | None = None) -> Float[Tensor, "... score_width"]:
        """The vectors of `items`, or of the whole catalogue, items 1..V in order, where None."""
        if items is None:
            return self._table()[1:]
        return self.head.vectors(self.embedding(items), items)

    def scores(self, expected: Float[Tensor, "batch score_width"]) -> Float[Tensor, "batch items+1"]:
        """The score of every item, padding (item 0) included."""
        return F.linear(expected, self._table())

    def attention_weights(
        self,
        history: Int[Tensor, "batch time"],
        lengths: Int[Tensor, " batch"],
        *beside: Tensor,
    ) -> list[Tensor]:
        """Per block, [batch, heads, time, time]: how much of each item every position takes.

        Raises:
            ValueError: as `expects`.
        """
        at, context = self._known(history, lengths, beside)
        return self.encoder.weights(self._embed(history, at, context), View(at, causal & same_segment))

    def folded(self) -> "SASRec":
        """The model as it is served: with the vectors of its items as a plain table, whatever makes them."""
        if isinstance(self.embedding, nn.Embedding):
            return self
        model = copy.copy(self)
        table = nn.Embedding.from_pretrained(self.embedding.weight.detach(), padding_idx=0)
        model._modules = model._modules | {"embedding": table}
        return model

    def _table(self) -> Tensor:
        return self.head.vectors(self.embedding.weight, None)

    def _known(
        self, history: Tensor, lengths: Tensor, beside: Sequence[Tensor]
    ) -> tuple[Coordinates, dict[str, Tensor]]:
        if history.shape[1] > self.window:
            raise ValueError(
                f"history holds {history.shape[1]} items, the model looks at {self.window} (its window): "
                f"give the last {self.window}"
            )
        if len(beside) != len(self.beside):
            raise ValueError(
                f"the model reads {', '.join(self.beside) or 'nothing'} beside the history: give that, in this order"
            )
        known = dict(zip(self.beside, beside, strict=True))
        at = rows(lengths, history.shape[1])
        if self.timed:
            at = at._replace(time=known.pop("times"))
        if "at" in known:
            last = at.position == lengths[:, None] - 1
            known["at"] = torch.where(last, known["at"][:, None], at.time.roll(-1, 1))
        if "user" in known:
            known["user"] = known["user"][:, None]
        return at, known

    def _embed(self, history: Tensor, at: Coordinates, context: Mapping[str, Tensor]) -> Tensor:
        tokens = self.embedding(history)
        if self.positions is not None:
            tokens = tokens + self.positions(at.position).to(tokens.dtype)
        for name, vectors in self.context.items():
            tokens = tokens + vectors(context[name], at)
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
    block: Literal["transformer", "hstu"] = "transformer",
    kernel: Callable[[], Kernel] = Softmax,
    positions: nn.Module | None = None,
    rotary: bool = False,
    bias: Callable[[], Bias] | None = None,
    timed: bool = False,
    query_time: bool = False,
    types: int = 0,
    user: int = 0,
    gated: bool = False,
    swiglu: bool = False,
    cosine: bool = False,
    transition: int = 0,
    repeats: bool = False,
    content: Content | None = None,
    chosen: Bool[Tensor, " items"] | None = None,
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
        block: attention and feed-forward, or HSTU, which has neither kernel nor feed-forward.
        kernel: makes each block's kernel.
        positions: gives the vectors that are added to the items; learned ones where None and nothing else knows order.
        rotary: rotary positions.
        bias: makes each block's bias.
        timed: whether the bias looks at the times of events.
        query_time: whether each item knows when the next one is asked for.
        types: of events that are told apart; 0 tells none.
        user: numbers that tell of a user; 0 tells nothing.
        gated: gates on the residual branches (LiGR).
        swiglu: SwiGLU in place of a GELU feed-forward.
        cosine: compares directions, with a learned temperature, in place of the dot product.
        transition: rank of what is added for how items follow the last one; 0 adds nothing.
        repeats: whether items of the history may be recommended again.
        content: makes an item's vector from its features too.
        chosen: with `content`, which items were chosen in training, row 0 for padding; all where None.
        dropout: on the embedded history and on every branch.
    """
    inside = 4 * width if hidden is None else hidden

    def made_bias() -> Bias | None:
        return None if bias is None else bias()

    def transformer_block() -> Block:
        turns = Rotary(width // heads) if rotary else None
        attention = Attention(width, heads, kernel=kernel(), rotary=turns, bias=made_bias())
        feed_forward = SwiGLU(width, inside, dropout) if swiglu else FeedForward(width, inside, nn.GELU(), dropout)
        return Block(width, attention, feed_forward, dropout=dropout, gated=gated)

    def hstu_block() -> HSTU:
        return HSTU(width, heads, longest=window, bias=made_bias(), dropout=dropout)

    if positions is None and not rotary and bias is None:
        positions = LearnedPositions(window, width)
    context: dict[str, nn.Module] = {}
    if query_time:
        context["at"] = QueryTime(width)
    if types:
        context["types"] = EventTypes(types, width)
    if user:
        context["user"] = User(user, width)
    head: Head = Cosine() if cosine else Dot()
    if transition:
        head = Transition(head, items, transition, dropout=dropout)
    make = transformer_block if block == "transformer" else hstu_block
    return SASRec(
        items,
        width,
        Encoder([make() for _ in range(blocks)], width),
        window=window,
        head=head,
        positions=positions,
        dropout=dropout,
        timed=timed,
        context=context,
        repeats=repeats,
        content=content,
        chosen=chosen,
    )
