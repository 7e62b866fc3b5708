"""What an attention computes once queries, keys and values are there. A model chooses a kernel by passing it in."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from headwise.attention.masks import View


@runtime_checkable
class Kernel(Protocol):
    """From queries, keys and values to one mixture of values per query; a function, or a module where it has parameters.

    Every kernel is linear in `value`, so its weights are its answer to the identity matrix.
    """

    def __call__(
        self,
        query: Float[Tensor, "batch heads queries head_width"],
        key: Float[Tensor, "batch kv_heads keys head_width"],
        value: Float[Tensor, "batch kv_heads keys value_width"],
        view: View,
    ) -> Float[Tensor, "batch heads queries value_width"]:
        """`heads` must be a multiple of `kv_heads`; a query that sees no key gets zeros."""
        ...


def softmax(
    query: Float[Tensor, "batch heads queries head_width"],
    key: Float[Tensor, "batch kv_heads keys head_width"],
    value: Float[Tensor, "batch kv_heads keys value_width"],
    view: View,
) -> Float[Tensor, "batch heads queries value_width"]:
    """Scaled dot-product attention, softmax(Q K' / sqrt(d)) V (Vaswani et al. 2017, eq. 1), multi-head or grouped-query.

    Grouped-query (Ainslie et al. 2023): `heads / kv_heads` query heads share each key head. Time and memory are
    quadratic in length; PyTorch's fused kernels keep the weights out of memory.
    """
    grouped = key.shape[1] != query.shape[1]
    if view.is_causal:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=view.visible, enable_gqa=grouped)
