"""Who the user is, as a vector that is added to each item of the history."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import Coordinates


class User(nn.Module):
    """A linear map of what is known of a user, see `headwise_recsys.user_rows`; the vector of nobody known is 0.

    In training some users are taken for unknown, now and then, so that the model knows how to do without.

    Args:
        size: numbers that tell of a user.
        width: of the tokens.
        dropout: share of the histories whose user is taken for unknown.
    """

    def __init__(self, size: int, width: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, size) * width**-0.5)
        self.dropout = dropout

    def forward(
        self, user: Float[Tensor, "batch histories size"], at: Coordinates
    ) -> Float[Tensor, "batch time width"]:
        """The vector of each token.

        Args:
            user: of each history of a row, in the order of their segments.
            at: where the tokens stand, each in the segment of its history.
        """
        vectors = F.linear(user, self.weight)
        if self.training and self.dropout:
            vectors = vectors * (torch.rand_like(vectors[..., :1]) >= self.dropout)
        whose = (at.segment - 1).clamp(min=0)[..., None].expand(-1, -1, vectors.shape[2])
        return vectors.gather(1, whose)
