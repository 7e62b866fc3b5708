"""The loss that the flags of a run ask for."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwise_pipelines.recsys.presets import LossSettings
from headwise_recsys.interactions import Interactions
from headwise_recsys.losses import (
    BinaryCrossEntropy,
    Loss,
    Mixed,
    SampledSoftmax,
    Uniform,
    calibrated,
    exact_softmax,
)
from headwise_recsys.splits import spans


def chosen(settings: LossSettings, data: Interactions, stops: NDArray[np.int64]) -> Loss:
    """The loss of a configuration.

    Args:
        settings: which, and its numbers.
        data: the events.
        stops: one past each user's last training event.
    """
    items, negatives = data.item_count, settings.negatives
    if settings.name == "softmax":
        return exact_softmax
    if settings.name == "sampled":
        return SampledSoftmax(Mixed(_popularity(data, stops), negatives, in_batch=settings.in_batch))
    beta = calibrated(negatives, items, settings.calibration) if settings.name == "gbce" else 1.0
    return BinaryCrossEntropy(Uniform(items, negatives, shared=settings.shared), beta)


def _popularity(data: Interactions, stops: NDArray[np.int64]) -> Tensor:
    # A user's first event is never a target.
    firsts = data.offsets[:-1] + 1
    _, events = spans(firsts, np.maximum(firsts, stops))
    return torch.from_numpy(np.bincount(data.items[events], minlength=data.item_count + 1)).float()
