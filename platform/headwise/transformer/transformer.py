"""The Transformer: from a sequence of tokens to another one."""

import math
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import Attention, Coordinates, SinusoidalPositions, View, causal, same_segment
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


class Transformer(nn.Module):
    """Encoder and decoder over one vocabulary (Vaswani et al. 2017), with pre-norm blocks where the paper norms afterwards.

    One table embeds the source, embeds the target and scores the next token (section 3.4).

    Args:
        vocab: how many tokens source and target are written with.
        width: of their vectors.
        encoder: reads the source.
        decoder: writes the target.
        positions: added to the embedded tokens: `SinusoidalPositions` or `LearnedPositions`.
        dropout: on the embedded tokens.
    """

    def __init__(
        self,
        vocab: int,
        width: int,
        encoder: Encoder,
        decoder: Decoder,
        *,
        positions: nn.Module,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.positions, self.dropout = positions, nn.Dropout(dropout)
        self.encoder, self.decoder = encoder, decoder
        nn.init.normal_(self.embedding.weight, std=width**-0.5)

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
        hidden: Tensor = self.decoder(self._embed(target, at), *self._views(of, at, self.encode(source, of)))
        return self._logits(hidden)

    def encode(self, source: Int[Tensor, "batch keys"], of: Coordinates) -> Float[Tensor, "batch keys width"]:
        """The source as the decoder looks at it."""
        read: Tensor = self.encoder(self._embed(source, of), View(of, same_segment))
        return read

    def read(self, source: Int[Tensor, "batch keys"], of: Coordinates, longest: int) -> Written:
        """The source remembered and nothing written yet, with room for `longest` tokens; `step` goes on from here."""
        return Written(of.position.new_zeros(len(source)), self.decoder.remember(self.encode(source, of), of, longest))

    def step(self, tokens: Int[Tensor, " batch"], written: Written) -> tuple[Float[Tensor, "batch vocab"], Written]:
        """One more token a row: the log-probabilities of the one after it, and what is written with it.

        This is what `greedy` and `beam_search` call.
        """
        position = written.length[:, None]
        at = Coordinates(position, position.new_ones(position.shape), position.new_zeros(position.shape))
        hidden, states = self.decoder.step(self._embed(tokens[:, None], at), at, causal, written.states)
        return self._logits(hidden).squeeze(1).log_softmax(-1), Written(written.length + 1, states)

    def attention_weights(
        self,
        source: Int[Tensor, "batch keys"],
        of: Coordinates,
        target: Int[Tensor, "batch time"],
        at: Coordinates,
    ) -> list[DecoderWeights]:
        """Per decoder block: how much each place of the target takes of the target and of the source."""
        return self.decoder.weights(self._embed(target, at), *self._views(of, at, self.encode(source, of)))

    def _views(self, of: Coordinates, at: Coordinates, source: Tensor) -> tuple[View, Tensor, View]:
        return View(at, causal & same_segment), source, View(at, same_segment, of)

    def _embed(self, tokens: Tensor, at: Coordinates) -> Tensor:
        vectors = self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim) + self.positions(at.position)
        embedded: Tensor = self.dropout(vectors)
        return embedded

    def _logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.embedding.weight)


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
    return Transformer(
        vocab,
        width,
        Encoder(encoder, width),
        Decoder(decoder, width),
        positions=SinusoidalPositions(width) if positions is None else positions,
        dropout=dropout,
    )
