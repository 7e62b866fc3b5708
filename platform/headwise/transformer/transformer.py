"""The Transformer: from one sequence of tokens to another."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import Attention, Coordinates, SinusoidalPositions, View, causal, rows, same_segment
from headwise.transformer.block import Block
from headwise.transformer.decoder import Decoder, DecoderBlock, DecoderState, DecoderWeights
from headwise.transformer.encoder import Encoder
from headwise.transformer.feedforward import FeedForward


class Written(NamedTuple):
    """A target as far as it is written.

    Attributes:
        length: how many tokens of each row.
        states: what every block of the decoder remembers of them and of the source.
    """

    length: Int[Tensor, " batch"]
    states: list[DecoderState]


class Writer(nn.Module):
    """A decoder over a vocabulary: it writes tokens while it looks at a source, be that text, the patches of a picture or frames.

    One table embeds the tokens and scores the next one (Vaswani et al. 2017, section 3.4).

    Args:
        vocab: how many tokens there are.
        width: of their vectors.
        decoder: of that width.
        positions: added to the embedded tokens: `SinusoidalPositions` or `LearnedPositions`.
        dropout: on the embedded tokens.

    Raises:
        ValueError: the decoder cannot write from left to right.
    """

    def __init__(self, vocab: int, width: int, decoder: Decoder, *, positions: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.positions, self.dropout, self.decoder = positions, nn.Dropout(dropout), decoder
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        decoder.check(causal & same_segment)

    def embed(self, tokens: Int[Tensor, "batch time"], at: Coordinates) -> Float[Tensor, "batch time width"]:
        """Each token's vector times sqrt(width), and its position."""
        vectors = self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim)
        embedded: Tensor = self.dropout(vectors + self.positions(at.position).to(vectors.dtype))
        return embedded

    def logits(self, hidden: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch time vocab"]:
        """The score of every token, from what the decoder answers."""
        return F.linear(hidden, self.embedding.weight)

    def forward(
        self,
        tokens: Int[Tensor, "batch time"],
        at: Coordinates,
        source: Float[Tensor, "batch keys width"],
        of: Coordinates,
    ) -> Float[Tensor, "batch time vocab"]:
        """The logits of the token that comes next, at every place.

        Args:
            tokens: with a sign for the beginning before the first, in rows that may hold several packed sequences.
            at: where each of them stands; it sees those before it, and the source of its own segment.
            source: as an encoder leaves it.
            of: where each vector of the source stands.
        """
        return self.logits(self.decoder(self.embed(tokens, at), *_views(at, source, of)))

    def remember(self, source: Float[Tensor, "batch keys width"], of: Coordinates, longest: int) -> Written:
        """The source known and nothing written yet, with room for `longest` tokens; `step` goes on from here."""
        return Written(of.position.new_zeros(source.shape[0]), self.decoder.remember(source, of, longest))

    def step(self, tokens: Int[Tensor, " batch"], written: Written) -> tuple[Float[Tensor, "batch vocab"], Written]:
        """One more token a row: the log-probabilities of the one after it, and what is written with it.

        This is what `greedy` and `beam_search` call.
        """
        at = rows(torch.ones_like(tokens), 1, start=written.length)
        hidden, states = self.decoder.step(self.embed(tokens[:, None], at), at, causal, written.states)
        return self.logits(hidden).squeeze(1).log_softmax(-1), Written(written.length + 1, states)

    def attention_weights(
        self,
        tokens: Int[Tensor, "batch time"],
        at: Coordinates,
        source: Float[Tensor, "batch keys width"],
        of: Coordinates,
    ) -> list[DecoderWeights]:
        """Per block: how much each place takes of the others and of the source."""
        return self.decoder.weights(self.embed(tokens, at), *_views(at, source, of))


class Transformer(nn.Module):
    """Encoder and decoder over one vocabulary (Vaswani et al. 2017), with pre-norm blocks where the paper norms afterwards.

    Args:
        encoder: reads the source.
        writer: writes the target; its table embeds the source too.
    """

    def __init__(self, encoder: Encoder, writer: Writer) -> None:
        super().__init__()
        self.encoder, self.writer = encoder, writer

    def forward(
        self,
        source: Int[Tensor, "batch keys"],
        of: Coordinates,
        target: Int[Tensor, "batch time"],
        at: Coordinates,
    ) -> Float[Tensor, "batch time vocab"]:
        """The logits of the token that comes next, at every place of the target.

        Args:
            source: tokens, in rows that may hold several packed sequences.
            of: where each of them stands.
            target: tokens, with a sign for the beginning before the first.
            at: where each of them stands; it sees the source of its own segment.
        """
        logits: Tensor = self.writer(target, at, self.encode(source, of), of)
        return logits

    def encode(self, source: Int[Tensor, "batch keys"], of: Coordinates) -> Float[Tensor, "batch keys width"]:
        """The source as the writer looks at it."""
        encoded: Tensor = self.encoder(self.writer.embed(source, of), View(of, same_segment))
        return encoded

    def read(self, source: Int[Tensor, "batch keys"], of: Coordinates, longest: int) -> Written:
        """The source read and nothing written yet, with room for `longest` tokens; `step` goes on from here."""
        return self.writer.remember(self.encode(source, of), of, longest)

    def step(self, tokens: Int[Tensor, " batch"], written: Written) -> tuple[Float[Tensor, "batch vocab"], Written]:
        """One more token a row: the log-probabilities of the one after it, and what is written with it."""
        return self.writer.step(tokens, written)

    def attention_weights(
        self,
        source: Int[Tensor, "batch keys"],
        of: Coordinates,
        target: Int[Tensor, "batch time"],
        at: Coordinates,
    ) -> list[DecoderWeights]:
        """Per decoder block: how much each place of the target takes of the target and of the source."""
        return self.writer.attention_weights(target, at, self.encode(source, of), of)


def encoder_decoder(
    vocab: int,
    *,
    width: int = 512,
    blocks: int = 6,
    heads: int = 8,
    hidden: int = 2048,
    dropout: float = 0.1,
    positions: nn.Module | None = None,
) -> Transformer:
    """A Transformer from its numbers; without any, the paper's base model.

    Args:
        vocab: how many tokens source and target are written with.
        width: of their vectors.
        blocks: of the encoder, and as many of the decoder.
        heads: of every attention.
        hidden: width of the feed-forwards' inside.
        dropout: on the embedded tokens and on the answer of every branch.
        positions: added to the embedded tokens; `SinusoidalPositions(width)` where None.
    """

    def attention() -> Attention:
        return Attention(width, heads)

    def feed_forward() -> FeedForward:
        return FeedForward(width, hidden, nn.ReLU())

    encoder = [Block(width, attention(), feed_forward(), dropout=dropout) for _ in range(blocks)]
    decoder = [DecoderBlock(width, attention(), attention(), feed_forward(), dropout=dropout) for _ in range(blocks)]
    writer = Writer(
        vocab,
        width,
        Decoder(decoder, width),
        positions=SinusoidalPositions(width) if positions is None else positions,
        dropout=dropout,
    )
    return Transformer(Encoder(encoder, width), writer)


def _views(at: Coordinates, source: Tensor, of: Coordinates) -> tuple[View, Tensor, View]:
    return View(at, causal & same_segment), source, View(at, same_segment, of)
