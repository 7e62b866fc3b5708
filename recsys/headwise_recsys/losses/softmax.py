"""Exact softmax cross-entropy over the whole catalogue."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from headwise_recsys.losses.loss import Seen, Vectors

CACHE = 2 * 2**20  # bytes of logits at a time: they are read three times, so they should stay in a core's cache
LEAST_ROWS = 64  # below this the matrix products lose more than the cache gives


def exact_softmax(
    hidden: Float[Tensor, "positions width"],
    targets: Int[Tensor, " positions"],
    vectors: Vectors,
    seen: Seen | None = None,
) -> Float[Tensor, ""]:
    """As every loss: `softmax_cross_entropy` over all items, or over those that were not seen where `seen` is given."""
    left_out = None if seen is None else seen._replace(items=seen.items - 1)
    return softmax_cross_entropy(hidden, vectors(), targets - 1, left_out)


def softmax_cross_entropy(
    hidden: Float[Tensor, "positions width"],
    weight: Float[Tensor, "items width"],
    targets: Int[Tensor, " positions"],
    left_out: Seen | None = None,
) -> Float[Tensor, ""]:
    """Mean of -log softmax(hidden weight')[target], exact, without ever holding positions x items.

    Positions are taken in chunks that fit the cache. A chunk's logits become shares of the softmax in the buffer that every
    chunk reuses, and give the loss and both gradients at once.

    Half precision, as mixed training brings, is computed in float32. Under bfloat16 autocast logits and their gradients are
    bfloat16, as they are in any model there, and all sums float32: 0.6 of the time on a CPU that multiplies such numbers,
    for gradients that differ by about 0.2 %.

    Args:
        hidden: what the model says at each position that has a target.
        weight: item embeddings.
        targets: rows of `weight`, from 0.
        left_out: rows of `weight`, from 0, that the softmax of each position is not over; its own target stays in.

    Raises:
        ValueError: there is no position to take the mean of.
        IndexError: a target is not a row of `weight`.
    """
    if not len(hidden):
        raise ValueError("no position has a target: the mean of no losses is not a number")
    dtype = torch.promote_types(torch.promote_types(hidden.dtype, weight.dtype), torch.float32)
    learns = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    products = torch.bfloat16 if _mixed_bfloat16(hidden.device.type) else dtype
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden.to(dtype), weight.to(dtype), targets, left_out, learns, products)
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        left_out: Seen | None,
        learns: bool,
        products: torch.dtype,
    ) -> Tensor:
        positions, items = hidden.shape[0], weight.shape[0]
        factors, table = hidden.to(products), weight.to(products)
        rows = min(positions, max(LEAST_ROWS, CACHE // (table.itemsize * items)))
        buffer = table.new_empty(rows, items)
        grad_hidden = torch.empty_like(hidden) if learns else None
        grad_weight = torch.zeros_like(weight) if learns else None
        total = hidden.new_zeros(())
        for start in range(0, positions, rows):
            chunk = slice(start, start + rows)
            some, wanted = factors[chunk], targets[chunk]
            # Refuses padding's -1, which weight[wanted] would take for the last item.
            right = weight.index_select(0, wanted)
            logits = torch.mm(some, table.t(), out=buffer[: len(some)])
            if left_out is not None:
                _leave_out(logits, Seen(left_out.items, left_out.starts[chunk], left_out.stops[chunk]), wanted)
            peak = logits.amax(1)
            shares = torch.softmax(logits, 1, out=logits)
            # The log of the sum of exponentials, from the largest share, which is never so small that it has no logarithm.
            total += (peak - shares.amax(1).to(total.dtype).log()).sum() - (hidden[chunk] * right).sum()
            if grad_hidden is not None and grad_weight is not None:
                torch.sub(torch.mm(shares, table), right, out=grad_hidden[chunk])
                _add_product(grad_weight, shares.t(), some)
        if grad_hidden is not None and grad_weight is not None:
            grad_weight.index_add_(0, targets, hidden, alpha=-1)
            ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.positions = positions
        return total / positions

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = grads[0] / ctx.positions
        return grad_hidden * scale, grad_weight * scale, None, None, None, None


def _mixed_bfloat16(device: str) -> bool:
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if right.dtype == total.dtype:
        total.addmm_(left, right)
    else:  # the product of one chunk may be rounded, not the sum over chunks
        total += torch.mm(left, right)


def _leave_out(logits: Tensor, left_out: Seen, targets: Tensor) -> None:
    items, starts, stops = left_out
    own = logits.gather(1, targets[:, None])
    lengths = stops - starts
    rows = torch.repeat_interleave(lengths)
    places = torch.arange(len(rows), device=logits.device) + (starts - lengths.cumsum(0) + lengths)[rows]
    logits.view(-1).index_fill_(0, rows * logits.shape[1] + items[places], -torch.inf)
    logits.scatter_(1, targets[:, None], own)
