"""How a token knows its place: learned, sinusoidal or rotary."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class LearnedPositions(nn.Module):
    """A vector a position, learned; to be added to the tokens (Gehring et al. 2017; SASRec, Kang & McAuley 2018, eq. 1)."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(length, width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, position: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time width"]:
        """The vectors at `position`, which must lie below `length`."""
        vectors: Tensor = self.table(position)
        return vectors


class SinusoidalPositions(nn.Module):
    """Sines and cosines of geometrically spaced wavelengths; to be added to the tokens (Vaswani et al. 2017, section 3.5).

    The sines stand in the first half of the width and the cosines in the second; the paper interleaves them.
    """

    def __init__(self, width: int, base: float = 10_000.0) -> None:
        super().__init__()
        self.width, self.base = _even(width), base

    def forward(self, position: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time width"]:
        """The vectors at `position`, of any size, in single precision."""
        angle = _angles(position, self.width, self.base, torch.float32)
        return torch.cat([angle.sin(), angle.cos()], -1)


class Rotary(nn.Module):
    """Rotates queries and keys by their position, so that their product depends on the distance alone (RoFormer, Su et al. 2021).

    Pairs are (i, i + head width / 2), as in GPT-NeoX, where the paper pairs neighbours. Keys are cached already rotated.
    That holds for Softmax and Window, whose scores are such products; in the other kernels it tells places, not distances.
    """

    def __init__(self, head_width: int, base: float = 10_000.0) -> None:
        super().__init__()
        self.head_width, self.base = _even(head_width), base

    def forward(
        self, heads: Float[Tensor, "batch heads time head_width"], position: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch heads time head_width"]:
        """`heads` rotated to `position`."""
        angle = _angles(position, self.head_width, self.base, torch.promote_types(heads.dtype, torch.float32))[:, None]
        cos, sin = angle.cos().to(heads.dtype), angle.sin().to(heads.dtype)
        first, second = heads.chunk(2, -1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def _even(width: int) -> int:
    if width % 2:
        raise ValueError(f"width ({width}) must be even: its dimensions come in pairs")
    return width


def _angles(position: Tensor, width: int, base: float, dtype: torch.dtype) -> Tensor:
    # Made anew, so that a module's .half() cannot coarsen it: half precision does not tell large positions apart.
    frequency = base ** (-torch.arange(0, width, 2, dtype=dtype, device=position.device) / width)
    return position[..., None] * frequency
