"""The attention that the flags of a run ask for."""

from collections.abc import Callable

from torch import nn

from headwise.attention import (
    Additive,
    ALiBi,
    Bias,
    Hierarchical,
    Kernel,
    LearnedPositions,
    Linear,
    RelativeBias,
    SinusoidalPositions,
    Softmax,
    Window,
    window,
)


def kernels(name: str, head_width: int, *, reach: int, ahead: int) -> Callable[[], Kernel]:
    """Makes one kernel a block.

    Args:
        name: of the kernel.
        head_width: of queries and keys.
        reach: positions that a window looks back, or that make a hierarchical group.
        ahead: positions that a window looks ahead.
    """
    pattern = window(reach, ahead)  # one for all blocks, which then lay the row out once
    makers: dict[str, Callable[[], Kernel]] = {
        "softmax": Softmax,
        "additive": lambda: Additive(head_width),
        "window": lambda: Window(pattern),
        "linear": Linear,
        "hierarchical": lambda: Hierarchical(head_width, reach),
    }
    return makers[name]


def added(positions: str, width: int, longest: int) -> nn.Module | None:
    """What is added to the tokens for their positions, of which there are `longest` at most; None for what is not added."""
    if positions == "learned":
        return LearnedPositions(longest, width)
    return SinusoidalPositions(width) if positions == "sinusoidal" else None


def biases(positions: str, heads: int, distance: int) -> Callable[[], Bias] | None:
    """Makes one bias a block, which tells distances up to `distance` apart; None for positions that are no bias."""
    if positions == "relative":
        return lambda: RelativeBias(heads, distance)
    return (lambda: ALiBi(heads)) if positions == "alibi" else None
