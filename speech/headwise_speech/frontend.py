"""From waveform to log-mel spectrogram, with operations that every runtime has and runs fast."""

import math
from collections.abc import Iterable

import torch
import torchaudio
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLE_RATE = 16_000  # Hz
WINDOW = SAMPLE_RATE * 25 // 1000  # samples, 25 ms
HOP = SAMPLE_RATE * 10 // 1000  # samples, 10 ms
FFT = 512  # points; the window is followed by zeros up to there, so that no mel filter falls between two bins
FLOOR = 1e-6  # power that silence counts as; below the quantisation noise of 16-bit speech


class LogMel(nn.Module):
    """Log-mel spectrogram, each mel normalised by its mean and deviation over the training set.

    (log(M |F(w x)|^2 + floor) - mean) / deviation, with F the Fourier transform, w Hann's window, and M triangular filters
    on the mel scale. The transform is a convolution whose kernels are windowed cosines and sines: the fastest form in ONNX
    Runtime, and equal to torch.stft. Frames are centred on multiples of the hop. What lies before and after an utterance
    counts as silence, so the answer for a row does not depend on its padding.

    Args:
        mels: filters, evenly spaced on the mel scale from 0 to half the sample rate.
    """

    fourier: Tensor
    filters: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, mels: int = 80) -> None:
        super().__init__()
        self.register_buffer("fourier", _windowed_waves(), persistent=False)
        filters = torchaudio.functional.melscale_fbanks(FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, mels, SAMPLE_RATE)
        self.register_buffer("filters", filters.T[..., None].contiguous(), persistent=False)
        self.register_buffer("mean", torch.zeros(mels))
        self.register_buffer("deviation", torch.ones(mels))

    @property
    def mels(self) -> int:
        """How many filters there are."""
        return self.mean.shape[0]

    def forward(
        self, waveform: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames mels"], Int[Tensor, " batch"]]:
        """The normalised spectrogram of right-padded rows, and how many frames each row has: `lengths // HOP + 1`.

        Needs single precision: call it outside autocast.

        Args:
            waveform: 16 kHz, within -1..1.
            lengths: samples of each row.
        """
        real = torch.arange(waveform.shape[1], device=waveform.device) < lengths[:, None]
        return self.within(F.pad(waveform * real, (WINDOW // 2, WINDOW // 2))), lengths // HOP + 1

    def within(self, signal: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch frames mels"]:
        """The frames whose windows lie wholly within a stretch of signal, one at every hop from its first sample on."""
        cosine, sine = F.conv1d(signal[:, None], self.fourier, stride=HOP).chunk(2, 1)
        energy = F.conv1d(cosine.square() + sine.square(), self.filters)
        spectrogram = (energy + FLOOR).log().transpose(1, 2)
        return (spectrogram - self.mean) / self.deviation

    @torch.no_grad()
    def calibrate(self, waveforms: Iterable[Float[Tensor, " samples"]]) -> None:
        """Set mean and deviation to those of all frames of the training set."""
        self.mean.zero_()
        self.deviation.fill_(1)
        count, total, squares = 0, self.mean.double(), self.mean.double()
        for waveform in waveforms:
            frames = self(waveform[None], torch.tensor([len(waveform)]))[0][0].double()
            count, total, squares = count + len(frames), total + frames.sum(0), squares + frames.square().sum(0)
        mean = total / count
        self.mean.copy_(mean)
        self.deviation.copy_((squares / count - mean.square()).clamp(min=1e-4).sqrt())


def _windowed_waves() -> Float[Tensor, "waves 1 window"]:
    time = torch.arange(WINDOW, dtype=torch.float64)
    angle = torch.arange(FFT // 2 + 1, dtype=torch.float64)[:, None] * time * (2 * math.pi / FFT)
    waves = torch.cat([angle.cos(), angle.sin()]) * torch.hann_window(WINDOW, dtype=torch.float64)
    return waves[:, None].float()
