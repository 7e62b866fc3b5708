"""The kernel that everything is compared with."""

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention.biases import Bias
from headwise.attention.masks import Mask
from headwise.attention.view import View


class Softmax(nn.Module):
    """Scaled dot-product attention, softmax(Q K' / sqrt(d) + bias) V (Vaswani et al. 2017, eq. 1).

    Multi-head or grouped-query (Ainslie et al. 2023): `heads / kv_heads` query heads share each key head. Time is quadratic
    in length. PyTorch's fused kernels keep the weights out of memory, but not the mask: under `causal` alone, within one
    sequence a row, memory is linear in length; any other mask is a tensor of batch x queries x keys, shared by all layers,
    and a bias one of batch x heads x queries x keys in each layer. While a learned bias is trained PyTorch does not use its
    fused kernels. Under `causal` alone places are taken as they stand: packed or left-padded rows need `causal & same_segment`.
    """

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
        grouped = key.shape[1] != query.shape[1]
        if view.is_causal and bias is None:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
        mask = view.visible
        if bias is not None:
            mask = bias(*view.pairs).to(query.dtype).masked_fill(~mask, -math.inf)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=grouped)
