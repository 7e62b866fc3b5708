"""The mathematics of attention.

    coordinates   where a token stands: position, segment, time
    masks         who may look at whom, as rules on coordinates
    view          those rules applied to the tokens of one forward pass
    positions     how a token knows its place: added to tokens, or rotating queries and keys
    biases        how a score knows the distance
    kernels       what is computed between queries, keys and values: softmax, additive, window, linear, hierarchical
    pooling       many tokens to one
    caches        what is remembered from step to step
    multihead     the module that puts them together

Shapes are batch first, then heads, then time, then width. Nothing here needs more than torch, and jaxtyping for
the shapes in signatures.
"""

from headwise.attention.biases import ALiBi, Bias, IntervalBias, RelativeBias
from headwise.attention.caches import Cache, empty_cache
from headwise.attention.coordinates import Coordinates, rows
from headwise.attention.kernels import Additive, Hierarchical, Kernel, Linear, Recurrent, Softmax, Sums, Window
from headwise.attention.masks import Mask, causal, chunk, every, leading, masked_softmax, same_segment, window
from headwise.attention.multihead import Attention
from headwise.attention.pooling import Pooling
from headwise.attention.positions import LearnedPositions, Rotary, SinusoidalPositions
from headwise.attention.view import View

__all__ = [
    "ALiBi",
    "Additive",
    "Attention",
    "Bias",
    "Cache",
    "Coordinates",
    "Hierarchical",
    "IntervalBias",
    "Kernel",
    "LearnedPositions",
    "Linear",
    "Mask",
    "Pooling",
    "Recurrent",
    "RelativeBias",
    "Rotary",
    "SinusoidalPositions",
    "Softmax",
    "Sums",
    "View",
    "Window",
    "causal",
    "chunk",
    "empty_cache",
    "every",
    "leading",
    "masked_softmax",
    "rows",
    "same_segment",
    "window",
]
