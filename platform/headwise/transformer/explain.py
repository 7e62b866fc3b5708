"""Which inputs an answer came from, through all blocks at once."""

from collections.abc import Sequence
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor


def rollout(weights: Sequence[Float[Tensor, "batch heads time time"]]) -> Float[Tensor, "batch time time"]:
    """Attention rollout (Abnar & Zuidema 2020, eq. 1): how much of each input token reaches each output token.

    A block hands on half of what it is given by its residual and half by its attention, whose heads count alike:
    A = W / 2 + I / 2, rows scaled to 1. The blocks' matrices are multiplied, the last one on the left.

    It tells where an answer looked, not what a token was worth there, and knows neither feed-forwards nor convolutions.
    Time is cubic in length, memory quadratic.

    Args:
        weights: of each block, from input to output, as `Encoder.weights` gives them.

    Returns:
        Row t holds output token t's shares of the input tokens: they sum to 1, and are 0 wherever no chain of visible tokens
        leads, so also for padding. A token that saw nothing, as padding does, is its own.

    Raises:
        ValueError: there are no weights.
    """
    if not weights:
        raise ValueError("rollout of 0 blocks: give the attention weights of at least one")
    return reduce(lambda reached, block: _handed_on(block) @ reached, weights[1:], _handed_on(weights[0]))


def _handed_on(weights: Tensor) -> Tensor:
    time = weights.shape[-1]
    mixed = weights.mean(1) + torch.eye(time, dtype=weights.dtype, device=weights.device)
    return mixed / mixed.sum(-1, keepdim=True)
