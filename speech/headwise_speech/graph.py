"""The recogniser as it is exported: waveform and lengths in, log-probabilities and frames out; and what each frame looked at."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from headwise.attention import rows
from headwise.transformer import rollout
from headwise_speech.frontend import HOP, SAMPLE_RATE
from headwise_speech.model import Recogniser
from headwise_speech.subsampling import REDUCTION

INPUTS = ("waveform", "lengths")
OUTPUTS = ("log_probs", "frames")
EXPLAINED_OUTPUTS = ("attention",)
LONGEST = 3600 * SAMPLE_RATE  # samples, an hour; attention's memory gives out before
MARGIN = (
    REDUCTION * HOP
)  # samples; with that many more no dimension inside the graph is ever 1, which export would bake in


class RecogniserGraph(nn.Module):
    """What is traced: the recogniser with its front end, ready for audio of any length, even a single sample.

    Without dropout or gradients; the model that is given is changed so.
    """

    def __init__(self, model: Recogniser) -> None:
        super().__init__()
        self.model = model
        self.eval().requires_grad_(False)

    def forward(
        self, waveform: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch time vocab"], Int[Tensor, " batch"]]:
        """As the model's, with one more frame of padding; rows of frames beyond `frames` mean nothing."""
        log_probs, frames = self.model(F.pad(waveform, (0, MARGIN)), lengths)
        return log_probs, frames


class ExplanationGraph(nn.Module):
    """Which frames the model looked at for each frame. A graph of its own: its memory is quadratic in time.

    Without dropout or gradients; the model that is given is changed so.
    """

    def __init__(self, model: Recogniser) -> None:
        super().__init__()
        self.model = model
        self.eval().requires_grad_(False)

    def forward(
        self, waveform: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch time time"]]:
        """The share of every frame (to the right) in each frame (downwards), by attention rollout; 0 to and from padding.

        Convolutions, which mix a frame with its neighbours, are left out of it.
        """
        with sdpa_kernel(SDPBackend.MATH):  # the choice of a fused one would forbid as many frames as a head is wide
            weights, frames = self.model.attention_weights(F.pad(waveform, (0, MARGIN)), lengths)
        shares = rollout(weights)
        real = rows(frames, shares.shape[1]).segment > 0
        return (shares.masked_fill(~(real[:, :, None] & real[:, None]), 0.0),)


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
