"""The part of a block that looks at one token at a time."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.transformer.dropout import Dropout


class FeedForward(nn.Module):
    """W2 activation(W1 x) (Vaswani et al. 2017, eq. 2, there with ReLU)."""

    def __init__(self, width: int, hidden: int, activation: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.activation, self.dropout = activation, Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Each token on its own."""
        answer: Tensor = self.down(self.dropout(self.activation(self.up(tokens))))
        return answer


class SwiGLU(nn.Module):
    """W3 (SiLU(W1 x) * W2 x) (Shazeer 2020, eq. 6); W1 and W2 are one matrix."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Each token on its own."""
        gate, value = self.up(tokens).chunk(2, -1)
        answer: Tensor = self.down(self.dropout(F.silu(gate) * value))
        return answer
