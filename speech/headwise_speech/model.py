"""The recogniser: log-mel frames, four to one, through the shared encoder, to the log-probability of each character."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import (
    Attention,
    Bias,
    Coordinates,
    Kernel,
    Mask,
    Rotary,
    SinusoidalPositions,
    Softmax,
    View,
    rows,
    same_segment,
)
from headwise.attention import chunk as chunks
from headwise.transformer import (
    Block,
    Decoder,
    DecoderBlock,
    DepthwiseConvolution,
    Encoder,
    FeedForward,
    State,
    Writer,
)
from headwise_speech.frontend import HOP, WINDOW, LogMel
from headwise_speech.subsampling import BEFORE, REDUCTION, Subsampling

BLANK = 0  # of CTC; no transcript holds it, so for the attention decoder it stands before and after every one
LEAD = BEFORE * HOP + WINDOW // 2  # samples before a chunk that its tokens are made from


def window(chunk: int) -> int:
    """Samples that a chunk of so many tokens is made from: `LEAD`, its own, and a few after them."""
    return LEAD + (REDUCTION * chunk - 1) * HOP + WINDOW // 2


class Recogniser(nn.Module):
    """A recogniser with two ears: connectionist temporal classification (CTC, Graves et al. 2006), and an attention decoder.

    CTC hears every frame by itself, which a beam searches fast; the decoder hears a transcript as a whole, and judges the few
    that the beam found (hybrid CTC/attention, Watanabe et al. 2017).

    Args:
        front_end: from waveform to spectrogram.
        subsampling: from spectrogram to fewer tokens.
        encoder: blocks that look at the whole utterance, or at what `mask` leaves of it.
        width: of the tokens.
        vocab: how many tokens a transcript is written with, blank included.
        mask: who may look at whom, of whole utterances.
        chunk: tokens that it hears at a time where it streams; 0 for one that does not.
        left: tokens before a chunk that it still looks at then.
        positions: gives the vector that is added to each token for its position; without it the encoder must know order itself.
        decoder: the attention decoder; None for CTC alone.
        dropout: on the tokens that enter the encoder.

    Raises:
        ValueError: the encoder cannot follow the mask, or chunks.
    """

    def __init__(
        self,
        front_end: LogMel,
        subsampling: Subsampling,
        encoder: Encoder,
        width: int,
        vocab: int,
        *,
        mask: Mask = same_segment,
        chunk: int = 0,
        left: int = 0,
        positions: nn.Module | None = None,
        decoder: Writer | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.chunk, self.left, self.mask = chunk, left, mask
        encoder.check(mask)
        if chunk:
            encoder.check(self.streaming)
        self.positions = positions
        self.front_end, self.subsampling, self.encoder = front_end, subsampling, encoder
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(width, vocab)
        self.decoder = decoder

    @property
    def streaming(self) -> Mask:
        """Who may look at whom where it streams: a chunk, and what lies up to `left` tokens before it."""
        return chunks(self.chunk, self.left) & same_segment

    def forward(
        self, waveform: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch time vocab"], Int[Tensor, " batch"]]:
        """Log-probabilities of the tokens at every 40 ms, and how many frames of them each row has.

        Args:
            waveform: 16 kHz, within -1..1, right-padded.
            lengths: samples of each row.
        """
        return self.log_probs(*self.front_end(waveform, lengths))

    def log_probs(
        self,
        spectrogram: Float[Tensor, "batch frames mels"],
        frames: Int[Tensor, " batch"],
        mask: Mask | None = None,
    ) -> tuple[Float[Tensor, "batch time vocab"], Int[Tensor, " batch"]]:
        """The same from a normalised spectrogram, under another mask where one is given."""
        encoded, time = self.encode(spectrogram, frames, mask)
        return self.read(encoded), time

    def encode(
        self,
        spectrogram: Float[Tensor, "batch frames mels"],
        frames: Int[Tensor, " batch"],
        mask: Mask | None = None,
    ) -> tuple[Float[Tensor, "batch time width"], Int[Tensor, " batch"]]:
        """What the encoder makes of a normalised spectrogram, and how many frames of it each row has."""
        tokens, time, view = self._embed(spectrogram, frames, mask)
        return self.encoder(tokens, view), time

    def depths(
        self,
        spectrogram: Float[Tensor, "batch frames mels"],
        frames: Int[Tensor, " batch"],
        mask: Mask | None = None,
    ) -> tuple[list[Float[Tensor, "batch time width"]], Int[Tensor, " batch"]]:
        """What each block makes of it, all of which `read` can read; the last is that of `encode`."""
        tokens, time, view = self._embed(spectrogram, frames, mask)
        return self.encoder.depths(tokens, view), time

    def read(self, encoded: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch time vocab"]:
        """The log-probabilities by CTC."""
        logits: Tensor = self.head(encoded)
        return logits.float().log_softmax(-1)

    def step(
        self,
        waveform: Float[Tensor, "batch samples"],
        lengths: Int[Tensor, " batch"],
        start: Int[Tensor, " batch"],
        states: Sequence[State],
    ) -> tuple[Float[Tensor, "batch chunk vocab"], Int[Tensor, " batch"], list[State]]:
        """The log-probabilities of the next chunk, as the whole utterance has them under the mask `streaming`.

        Args:
            waveform: `window(chunk)` samples, of which the first `LEAD` lie before the chunk; silence before the beginning.
            lengths: how many samples of the utterance come after those, all of them where it goes on beyond the window.
            start: how many tokens came before; a multiple of the chunk.
            states: one a block, as `encoder.empty_states(batch, left)` began them and the last step left them.

        Returns:
            The log-probabilities, how many frames of them each row has, and the states for the next step.
        """
        real = torch.arange(waveform.shape[1], device=waveform.device) < LEAD + lengths[:, None]
        frames = lengths // HOP + 1  # of the utterance, from the chunk on
        spectrogram = self.front_end.within(waveform * real)
        tokens = self.subsampling.within(spectrogram, REDUCTION * start - BEFORE, REDUCTION * start + frames)
        time = (-(-frames // REDUCTION)).clamp(max=self.chunk)
        at = rows(time, self.chunk, start)
        encoded, states = self.encoder.step(self._placed(tokens, at), at, self.streaming, states)
        return self.read(encoded), time, states

    def transcribed(
        self,
        encoded: Float[Tensor, "batch time width"],
        time: Int[Tensor, " batch"],
        tokens: Int[Tensor, "batch longest"],
    ) -> Float[Tensor, "batch places vocab"]:
        """The attention decoder's log-probabilities of each token of a transcript given those before it, and of its end.

        Args:
            encoded: as `encode` gives it.
            time: how many frames of it each row has.
            tokens: a transcript a row, padded with `BLANK`; there is one place more than it has tokens.

        Raises:
            ValueError: the recogniser has no decoder.
        """
        if self.decoder is None:
            raise ValueError("this recogniser has no attention decoder; build it with decoder=Writer(...)")
        before = F.pad(tokens, (1, 0), value=BLANK)
        at = rows((tokens != BLANK).sum(1) + 1, before.shape[1])
        logits: Tensor = self.decoder(before, at, encoded, rows(time, encoded.shape[1]))
        return logits.float().log_softmax(-1)

    def attention_weights(
        self, waveform: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[list[Float[Tensor, "batch heads time time"]], Int[Tensor, " batch"]]:
        """Per block: how much of every 40 ms each 40 ms takes; and how many of them each row has."""
        tokens, time, view = self._embed(*self.front_end(waveform, lengths))
        return self.encoder.weights(tokens, view), time

    def _embed(self, spectrogram: Tensor, frames: Tensor, mask: Mask | None = None) -> tuple[Tensor, Tensor, View]:
        tokens, time = self.subsampling(spectrogram, frames)
        at = rows(time, tokens.shape[1])
        return self._placed(tokens, at), time, View(at, self.mask if mask is None else mask)

    def _placed(self, tokens: Tensor, at: Coordinates) -> Tensor:
        if self.positions is not None:
            tokens = tokens + self.positions(at.position).to(tokens.dtype)
        placed: Tensor = self.dropout(tokens)
        return placed


def recogniser(
    vocab: int,
    *,
    width: int = 144,
    blocks: int = 6,
    heads: int = 4,
    span: int = 15,
    channels: int = 32,
    mels: int = 80,
    dropout: float = 0.1,
    kernel: Callable[[], Kernel] = Softmax,
    positions: nn.Module | None = None,
    rotary: bool = True,
    bias: Callable[[], Bias] | None = None,
    mask: Mask = same_segment,
    chunk: int = 0,
    left: int = 48,
    decoder_blocks: int = 0,
) -> Recogniser:
    """A recogniser of Conformer blocks from its numbers.

    Args:
        vocab: how many tokens a transcript is written with, blank included.
        width: of the tokens.
        blocks: how many.
        heads: of each block's attention.
        span: tokens that a block's convolution covers, centred; causal where `mask` bounds what may be seen ahead but by chunks.
        channels: of the subsampling convolutions.
        mels: of the spectrogram.
        dropout: on the tokens that enter the blocks and on the answer of every branch; none inside the branches, where drawing
            it would take a sixth of the training time.
        kernel: makes each block's attention kernel.
        positions: gives the vectors that are added to the tokens.
        rotary: rotary positions.
        bias: makes each block's bias.
        mask: who may look at whom, of whole utterances.
        chunk: tokens that it hears at a time where it streams; 0 for one that does not.
        left: tokens before a chunk that it still looks at then.
        decoder_blocks: of the attention decoder; 0 for CTC alone.
    """
    ahead = span // 2 if mask is same_segment or (mask.chunk and mask.ahead) else 0

    def block() -> Block:
        return Block(
            width,
            Attention(
                width,
                heads,
                kernel=kernel(),
                rotary=Rotary(width // heads) if rotary else None,
                bias=None if bias is None else bias(),
            ),
            FeedForward(width, 4 * width, nn.SiLU()),
            convolution=DepthwiseConvolution(width, span, ahead=ahead),
            opening=FeedForward(width, 4 * width, nn.SiLU()),
            dropout=dropout,
        )

    return Recogniser(
        LogMel(mels),
        Subsampling(mels, channels, width),
        Encoder([block() for _ in range(blocks)], width),
        width,
        vocab,
        mask=mask,
        chunk=chunk,
        left=left,
        positions=positions,
        decoder=attention_decoder(vocab, width, heads, decoder_blocks, dropout) if decoder_blocks else None,
        dropout=dropout,
    )


def attention_decoder(vocab: int, width: int, heads: int, blocks: int, dropout: float) -> Writer:
    """Transformer blocks that write a transcript from left to right while they look at what the encoder made of it."""

    def block() -> DecoderBlock:
        feed_forward = FeedForward(width, 4 * width, nn.SiLU())
        return DecoderBlock(width, Attention(width, heads), Attention(width, heads), feed_forward, dropout=dropout)

    decoder = Decoder([block() for _ in range(blocks)], width)
    return Writer(vocab, width, decoder, positions=SinusoidalPositions(width), dropout=dropout)
