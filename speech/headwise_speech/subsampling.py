"""From spectrogram frames to a quarter as many tokens, which attention can afford."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import rows

REDUCTION = 4  # spectrogram frames for one frame of the encoder, which is therefore 40 ms
BEFORE = REDUCTION - 1  # frames before its own first one that a token is made from; after its first there are as many


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

    def within(
        self,
        spectrogram: Float[Tensor, "batch frames mels"],
        first: Int[Tensor, " batch"],
        frames: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch time width"]:
        """The tokens whose frames lie wholly within a stretch of an utterance, as `forward` makes them of the whole.

        Args:
            spectrogram: the stretch, of 4 n + 3 frames.
            first: where it begins in the utterance, `BEFORE` frames before a token's own first one; negative at the beginning.
            frames: how many frames the utterance has.
        """
        signal = spectrogram[:, None]
        for convolution in (self.first, self.second):
            place = first[:, None] + torch.arange(signal.shape[2], device=first.device)
            real = (place >= 0) & (place < frames[:, None])
            signal = signal * real[:, None, :, None]
            signal = F.relu(F.conv2d(signal, convolution.weight, convolution.bias, stride=2, padding=(0, 1)))
            first, frames = (first + 1) // 2, (frames + 1) // 2
        tokens: Tensor = self.project(signal.transpose(1, 2).flatten(2))
        return tokens
