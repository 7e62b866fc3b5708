"""The recogniser: log-mel frames, four to one, through the shared encoder, to the log-probability of each character."""

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import Attention, Bias, Kernel, Mask, Rotary, Softmax, View, rows, same_segment
from headwise.transformer import Block, DepthwiseConvolution, Encoder, FeedForward
from headwise_speech.frontend import LogMel

REDUCTION = 4  # spectrogram frames for one frame of the encoder, which is therefore 40 ms


class Subsampling(nn.Module):
    """Two convolutions over time and frequency that halve both, then a projection (as in Conformer, Gulati et al. 2020).

    Padding is zeroed before each convolution, so the answer for a row does not depend on its batch-mates.

    Args:
        mels: of the spectrogram.
        channels: of the convolutions; they are what a step costs here.
        width: of the tokens that come out.
    """

    def __init__(self, mels: int, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.project = nn.Linear(channels * -(-mels // REDUCTION), width)

    def forward(
        self, spectrogram: Float[Tensor, "batch frames mels"], frames: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch time width"], Int[Tensor, " batch"]]:
        """A quarter as many tokens, rounded up twice, and how many of them each row has."""
        signal = spectrogram[:, None]
        for convolution in (self.first, self.second):
            real = rows(frames, signal.shape[2]).segment > 0
            signal = F.relu(convolution(signal * real[:, None, :, None]))
            frames = (frames + 1) // 2
        return self.project(signal.transpose(1, 2).flatten(2)), frames


class Recogniser(nn.Module):
    """A recogniser trained with connectionist temporal classification (Graves et al. 2006); token 0 is its blank.

    Args:
        front_end: from waveform to spectrogram.
        subsampling: from spectrogram to fewer tokens.
        encoder: blocks that look at the whole utterance, or at what `mask` leaves of it.
        width: of the tokens.
        vocab: how many tokens a transcript is written with, blank included.
        mask: who may look at whom; add `chunk(...)` for one that can run while the speaker speaks.
        positions: gives the vector that is added to each token for its position; without it the encoder must know order itself.
        dropout: on the tokens that enter the encoder.

    Raises:
        ValueError: the encoder cannot follow the mask.
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
        positions: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        encoder.check(mask)
        self.positions = positions
        self.front_end, self.subsampling, self.encoder = front_end, subsampling, encoder
        self.dropout, self.head, self.mask = nn.Dropout(dropout), nn.Linear(width, vocab), mask

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
        self, spectrogram: Float[Tensor, "batch frames mels"], frames: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch time vocab"], Int[Tensor, " batch"]]:
        """The same from a normalised spectrogram."""
        tokens, time, view = self._embed(spectrogram, frames)
        logits: Tensor = self.head(self.encoder(tokens, view))
        return logits.float().log_softmax(-1), time

    def attention_weights(
        self, waveform: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[list[Float[Tensor, "batch heads time time"]], Int[Tensor, " batch"]]:
        """Per block: how much of every 40 ms each 40 ms takes; and how many of them each row has."""
        tokens, time, view = self._embed(*self.front_end(waveform, lengths))
        return self.encoder.weights(tokens, view), time

    def _embed(self, spectrogram: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, View]:
        tokens, time = self.subsampling(spectrogram, frames)
        at = rows(time, tokens.shape[1])
        if self.positions is not None:
            tokens = tokens + self.positions(at.position).to(tokens.dtype)
        return self.dropout(tokens), time, View(at, self.mask)


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
) -> Recogniser:
    """A recogniser of Conformer blocks from its numbers.

    Args:
        vocab: how many tokens a transcript is written with, blank included.
        width: of the tokens.
        blocks: how many.
        heads: of each block's attention.
        span: tokens that a block's convolution covers, centred; causal where `mask` bounds what may be seen ahead.
        channels: of the subsampling convolutions.
        mels: of the spectrogram.
        dropout: on the tokens that enter the blocks and on the answer of every branch; none inside the branches, where drawing
            it would take a sixth of the training time.
        kernel: makes each block's attention kernel.
        positions: gives the vectors that are added to the tokens.
        rotary: rotary positions.
        bias: makes each block's bias.
        mask: who may look at whom.
    """
    ahead = span // 2 if mask is same_segment else 0

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

    encoder = Encoder([block() for _ in range(blocks)], width)
    subsampling = Subsampling(mels, channels, width)
    return Recogniser(LogMel(mels), subsampling, encoder, width, vocab, mask=mask, positions=positions, dropout=dropout)
