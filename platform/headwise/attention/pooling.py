"""From many tokens to one: attention whose query is learned."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from headwise.attention.masks import masked_softmax


class Pooling(nn.Module):
    """Attention pooling (Yang et al. 2016): the words of a sentence (eq. 5 to 7), the sentences of a document (eq. 8 to 10).

        u_i = tanh(W h_i + b),  a_i = softmax_i(u_i . c),  answer = sum_i a_i h_i

    It is additive attention by one learned query, the context vector c.

    Args:
        width: of the tokens.
        hidden: width of u and c; `width` where None.
    """

    def __init__(self, width: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = width if hidden is None else hidden
        self.inner = nn.Linear(width, hidden)
        self.context = nn.Parameter(torch.randn(hidden) * hidden**-0.5)

    def forward(
        self, tokens: Float[Tensor, "*batch time width"], real: Bool[Tensor, "*#batch time"]
    ) -> Float[Tensor, "*batch width"]:
        """One vector for the real tokens of each row; zeros where there are none."""
        return (self.weights(tokens, real)[..., None] * tokens).sum(-2)

    def weights(
        self, tokens: Float[Tensor, "*batch time width"], real: Bool[Tensor, "*#batch time"]
    ) -> Float[Tensor, "*batch time"]:
        """How much of each token the answer holds."""
        return masked_softmax(self.scores(tokens), real)

    def scores(self, tokens: Float[Tensor, "*batch time width"]) -> Float[Tensor, "*batch time"]:
        """u_i . c of each token: the logarithm of its weight, but for what is common to a row."""
        scores: Tensor = torch.tanh(self.inner(tokens)) @ self.context
        return scores
