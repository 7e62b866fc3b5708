"""The first attention: a small network scores each pair."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headwise.attention.biases import Bias
from headwise.attention.masks import Mask, masked_softmax
from headwise.attention.view import View


class Additive(nn.Module):
    """Additive attention (Bahdanau et al. 2015, appendix A.1.2).

        o_i = sum_j softmax_j(w . tanh(q_i + k_j) + b_ij) v_j

    Queries and keys come projected, by the matrices W_a and U_a of the paper; w is its v_a. Time and memory are batch x heads x
    queries x keys x head width, forward about a hundred times softmax's time: for few queries, as in pooling and cross-attention.

    Args:
        head_width: of queries and keys.
    """

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(head_width) * head_width**-0.5)

    def check(self, mask: Mask, *, biased: bool) -> None:
        """Follows every mask and adds every bias."""

    def forward(
        self,
        query: Float[Tensor, "batch heads queries head_width"],
        key: Float[Tensor, "batch kv_heads keys head_width"],
        value: Float[Tensor, "batch kv_heads keys value_width"],
        view: View,
        bias: Bias | None = None,
    ) -> Float[Tensor, "batch heads queries value_width"]:
        """As every kernel."""
        shared = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
        scores = torch.tanh(query[..., :, None, :] + key[..., None, :, :]) @ self.weight
        if bias is not None:
            scores = scores + bias(*view.pairs).to(scores.dtype)
        return masked_softmax(scores, view.visible) @ value
