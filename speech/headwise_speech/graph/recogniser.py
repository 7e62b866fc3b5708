"""The recogniser for whole recordings: waveform and lengths in, log-probabilities and frames out."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from headwise_speech.frontend import HOP, SAMPLE_RATE
from headwise_speech.model import Recogniser
from headwise_speech.subsampling import REDUCTION

INPUTS = ("waveform", "lengths")
OUTPUTS = ("log_probs", "frames")
ENCODED = "encoded"
LONGEST = 3600 * SAMPLE_RATE  # samples, an hour; attention's memory gives out before
MARGIN = (
    REDUCTION * HOP
)  # samples; with that many more no dimension inside the graph is ever 1, which export would bake in


class RecogniserGraph(nn.Module):
    """What is traced: the recogniser with its front end, ready for audio of any length, even a single sample.

    Without dropout or gradients; the model that is given is changed so.

    Args:
        model: the trained model.
        encoded: whether it also gives what the encoder made of each frame, for an attention decoder.
    """

    def __init__(self, model: Recogniser, *, encoded: bool = False) -> None:
        super().__init__()
        self.model = model
        self.outputs = (*OUTPUTS, ENCODED) if encoded else OUTPUTS
        self.eval().requires_grad_(False)

    def forward(self, waveform: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]) -> tuple[Tensor, ...]:
        """As the model's, with one more frame of padding; rows of frames beyond `frames` mean nothing."""
        spectrogram, frames = self.model.front_end(F.pad(waveform, (0, MARGIN)), lengths)
        encoded, time = self.model.encode(spectrogram, frames)
        answer = self.model.read(encoded), time
        return (*answer, encoded) if ENCODED in self.outputs else answer


def example(batch: int = 2, samples: int = SAMPLE_RATE, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise of the graph's form, from a full first row down to a half-full last: to trace with, to compare with."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.linspace(samples, (samples + 1) // 2, batch).long()
    waveform = 0.1 * torch.randn(batch, samples, generator=generator)
    return waveform * (torch.arange(samples) < lengths[:, None]), lengths


def dynamic_shapes() -> Mapping[str, Mapping[int, Dim]]:
    """The free dimensions of the inputs, by name."""
    batch, samples = Dim("batch", min=1, max=4096), Dim("samples", min=1, max=LONGEST)
    return {"waveform": {0: batch, 1: samples}, "lengths": {0: batch}}
