"""What a configuration may say: one message about a value that no run could use, before anything is read or opened."""

from typing import Any

from headwise.errors import InputError

BIASES, UNBIASED = ("relative", "alibi", "timed"), ("linear", "hierarchical", "sessions")


def at_least(group: str, settings: Any, **bounds: float) -> None:
    """Each named value must not be below its bound.

    Args:
        group: of the flags, "" at the top.
        settings: that hold the values.
        bounds: the lowest value of each.

    Raises:
        InputError: the first that is.
    """
    for name, bound in bounds.items():
        value = getattr(settings, name)
        if not value >= bound:  # also catches nan
            raise InputError(f"{_flag(group, name)} ({value}) must be at least {bound}")


def at_most(group: str, settings: Any, **bounds: float) -> None:
    """Each named value must not be above its bound.

    Raises:
        InputError: the first that is.
    """
    for name, bound in bounds.items():
        value = getattr(settings, name)
        if not value <= bound:
            raise InputError(f"{_flag(group, name)} ({value}) must be at most {bound}")


def share(group: str, settings: Any, name: str) -> None:
    """A share of something that is switched off: from 0 to below 1.

    Raises:
        InputError: it is not.
    """
    value = getattr(settings, name)
    if not 0 <= value < 1:
        raise InputError(f"{_flag(group, name)} ({value}) must be from 0 to below 1")


def divisible_heads(group: str, settings: Any) -> None:
    """`width` must be divisible by `heads`.

    Raises:
        InputError: it is not.
    """
    if settings.width % settings.heads:
        raise InputError(
            f"{_flag(group, 'width')} ({settings.width}) must be divisible by {_flag(group, 'heads')} ({settings.heads})"
        )


def compatible(group: str, settings: Any) -> None:
    """Kernel, positions and sizes must go together.

    Raises:
        InputError: rotary positions, which turn the dimensions of a head in pairs, in heads of an odd width; or positions that
            are added to scores, with a kernel that has none.
    """
    if settings.positions == "rotary" and settings.width // settings.heads % 2:
        raise InputError(
            f"{_flag(group, 'width')} / {_flag(group, 'heads')} ({settings.width} / {settings.heads}) must be even "
            "for rotary positions"
        )
    if settings.positions in BIASES and settings.kernel in UNBIASED:
        raise InputError(
            f"{_flag(group, 'kernel')} ({settings.kernel}) cannot add {_flag(group, 'positions')} ({settings.positions}) "
            "to its scores: use rotary or sinusoidal positions, or the kernel softmax, additive or window"
        )


def _flag(group: str, name: str) -> str:
    return f"{group}.{name}" if group else name
