"""The part of a block that looks at a few neighbours."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import View
from headwise.transformer.dropout import Dropout


class DepthwiseConvolution(nn.Module):
    """Gated depthwise convolution along time (Conformer, Gulati et al. 2020, section 2.2).

    LayerNorm stands where the paper has BatchNorm, and padding is zeroed before the convolution, so the answer for a row
    does not depend on its batch-mates. Rows must hold one sequence each.

    Under a mask of chunks what lies beyond a token's chunk counts as zero (dynamic chunk convolution, Li et al. 2023): so it
    runs chunk by chunk though it looks ahead, and the same weights serve with and without chunks.

    Args:
        width: of the tokens.
        kernel: how many tokens an answer depends on.
        ahead: how many of them lie in the future; 0 makes it causal, `kernel // 2` centres it.
        dropout: on the answer of the depthwise part.
    """

    def __init__(self, width: int, kernel: int, *, ahead: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= ahead < kernel:
            raise ValueError(f"ahead ({ahead}) must be at least 0 and smaller than kernel ({kernel})")
        self.back, self.ahead = kernel - 1 - ahead, ahead
        self.enter = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width)
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "batch time width"], view: View) -> Float[Tensor, "batch time width"]:
        """Each token with its neighbours; padding counts as zero."""
        signal = self._signal(tokens, view)
        if not (self.ahead and view.mask.chunk):
            return self._convolve(F.pad(signal, (0, 0, self.back, self.ahead)))
        time, size = signal.shape[1], view.mask.chunk
        padded = F.pad(signal, (0, 0, self.back, -time % size))
        chunks = padded.unfold(1, self.back + size, size).transpose(2, 3)
        answer = self._convolve(F.pad(chunks.flatten(0, 1), (0, 0, 0, self.ahead)))
        return answer.view(len(signal), -1, answer.shape[2])[:, :time]

    def step(
        self, tokens: Float[Tensor, "batch time width"], view: View, past: Float[Tensor, "batch back width"]
    ) -> tuple[Float[Tensor, "batch time width"], Float[Tensor, "batch back width"]]:
        """The next tokens given the `back` signals before them; equals `forward`.

        Where it looks ahead they are one chunk of the view's mask.

        Raises:
            ValueError: it looks ahead, and the mask has no chunks.
        """
        if self.ahead and not view.mask.chunk:
            raise ValueError(
                f"a convolution that looks {self.ahead} ahead cannot run step by step without chunks; build it with ahead=0, or "
                "use a mask with chunk(...)"
            )
        signal = torch.cat([past, self._signal(tokens, view)], 1)
        return self._convolve(F.pad(signal, (0, 0, 0, self.ahead))), signal[:, signal.shape[1] - self.back :]

    def _signal(self, tokens: Tensor, view: View) -> Tensor:
        return F.glu(self.enter(tokens), -1) * view.real[..., None]

    def _convolve(self, signal: Tensor) -> Tensor:
        mixed = self.depthwise(signal.transpose(1, 2)).transpose(1, 2)
        answer: Tensor = self.leave(self.dropout(F.silu(self.norm(mixed))))
        return answer
