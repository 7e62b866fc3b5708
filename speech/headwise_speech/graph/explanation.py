"""What each frame of the recogniser looked at, as a graph of its own."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from headwise.attention import rows
from headwise.transformer import rollout
from headwise_speech.graph.recogniser import MARGIN
from headwise_speech.model import Recogniser

EXPLAINED_OUTPUTS = ("attention",)


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
