"""Training losses: what the model expected at each position against the item that came there."""

from headwise_recsys.losses.binary import BinaryCrossEntropy, binary_cross_entropy, calibrated
from headwise_recsys.losses.loss import Loss, Seen, Vectors
from headwise_recsys.losses.negatives import Mixed, Uniform
from headwise_recsys.losses.sampled import SampledSoftmax, sampled_softmax
from headwise_recsys.losses.softmax import exact_softmax, softmax_cross_entropy

__all__ = [
    "BinaryCrossEntropy",
    "Loss",
    "Mixed",
    "SampledSoftmax",
    "Seen",
    "Uniform",
    "Vectors",
    "binary_cross_entropy",
    "calibrated",
    "exact_softmax",
    "sampled_softmax",
    "softmax_cross_entropy",
]
