"""What each item of a history did for a recommendation: the same question asked without it. NumPy alone."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]


def drops(
    history: Sequence[int], scores: Scores, ask: Callable[[Sequence[Sequence[int]]], Scores], *, batch: int
) -> Scores:
    """How far the score of each recommended item falls when one item of the history is left out; below 0 it rises.

    Leave-one-out (occlusion, Zeiler & Fergus 2014): exact, of the whole model, and of each recommended item by itself, where
    attention knows neither what a token was worth nor what it was looked at for. It is one answer for each item of the
    history; what two items did together, so that either one would have been enough, it does not show.

    Args:
        history: items, oldest first.
        scores: [items], of those that were recommended after the whole history.
        ask: from histories of one length to the scores of the same items [histories, items].
        batch: histories in one question at most, which bounds memory.

    Returns:
        [items, time]; of no width for a history of one item, since nothing can be asked without it.
    """
    if len(history) < 2 or not len(scores):
        return np.zeros((len(scores), 0), np.float32)
    without = [[*history[:left_out], *history[left_out + 1 :]] for left_out in range(len(history))]
    asked = [ask(without[start : start + batch]) for start in range(0, len(without), batch)]
    fallen: Scores = scores[:, None] - np.concatenate(asked).T
    return fallen
