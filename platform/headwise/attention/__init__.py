"""The mathematics of attention.

    coordinates   where a token stands: position, segment, time
    masks         who may look at whom, as rules on coordinates
    positions     how a token knows its place
    kernels       what is computed between queries, keys and values
    caches        what is remembered from step to step
    multihead     the module that puts them together

Shapes are batch first, then heads, then time, then width. Nothing here needs more than torch.
"""

from headwise.attention.caches import Cache, empty_cache
from headwise.attention.coordinates import Coordinates, rows
from headwise.attention.kernels import Kernel, softmax
from headwise.attention.masks import Mask, View, causal, chunk, same_segment
from headwise.attention.multihead import Attention
from headwise.attention.positions import LearnedPositions, Rotary, SinusoidalPositions

__all__ = [
    "Attention",
    "Cache",
    "Coordinates",
    "Kernel",
    "LearnedPositions",
    "Mask",
    "Rotary",
    "SinusoidalPositions",
    "View",
    "causal",
    "chunk",
    "empty_cache",
    "rows",
    "same_segment",
    "softmax",
]
