"""The kernel that everything is compared with."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention.biases import Bias
from headwise.attention.masks import Mask
from headwise.attention.view import View

_SHORT = 512  # keys, up to which training in bfloat16 holds the weights of a row in memory


class Softmax(nn.Module):
    """Scaled dot-product attention, softmax(Q K' / sqrt(d) + bias) V (Vaswani et al. 2017, eq. 1).

    Multi-head or grouped-query (Ainslie et al. 2023): `heads / kv_heads` query heads share each key head. Time is quadratic
    in length. PyTorch's fused kernels keep the weights out of memory, but not the mask: under `causal` alone, within one
    sequence a row, memory is linear in length; any other mask is a tensor of batch x queries x keys, shared by all layers,
    and a bias one of batch x heads x queries x keys in each layer. While a learned bias is trained PyTorch does not use its
    fused kernels. Their backward pass is slow in bfloat16 on a CPU: there short rows are learned from by plain products, in 0.6
    of the time at 200 places and 0.2 at 50. Under `causal` alone places are taken as they stand: packed or left-padded rows
    need `causal & same_segment`.
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
        if bias is None and not grouped and _learns_in_bfloat16(query) and key.shape[2] <= _SHORT:
            return _by_products(query, key, value, view)
        if view.is_causal and bias is None:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
        mask = view.visible
        if bias is not None:
            mask = bias(*view.pairs).to(query.dtype).masked_fill(~mask, -math.inf)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=grouped)


def _learns_in_bfloat16(query: Tensor) -> bool:
    learns = torch.is_grad_enabled() and query.requires_grad
    return learns and query.dtype == torch.bfloat16 and query.device.type == "cpu"


def _by_products(query: Tensor, key: Tensor, value: Tensor, view: View) -> Tensor:
    visible, lowest = view.visible, torch.finfo(query.dtype).min
    unseen = view.once(
        (Softmax, "unseen"), lambda: torch.zeros_like(visible, dtype=query.dtype).masked_fill_(~visible, lowest)
    )
    sees = view.once((Softmax, "sees"), lambda: visible.any(-1, keepdim=True).to(query.dtype))
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1) + unseen
    mixtures: Tensor = scores.softmax(-1) @ value * sees  # who sees nothing gathers nothing, as in the fused kernels
    return mixtures
