"""Sampled softmax: the exact one with the sum over the catalogue estimated from drawn items."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from headwise_recsys.losses.loss import Seen, Vectors
from headwise_recsys.losses.negatives import Sampler, scores


def sampled_softmax(
    positive: Float[Tensor, " positions"],
    negative: Float[Tensor, "positions negatives"],
    log_expected: Float[Tensor, " negatives"],
) -> Float[Tensor, ""]:
    """Mean of -log(e^s / (e^s + sum_j e^(s_j) / E_j)), with the logQ correction (Bengio & Senecal 2008; Yi et al. 2019).

    Dividing by E_j, how often item j was to be expected among the negatives, makes the sum an unbiased estimate of that
    over all items but the target. The target is there for certain, so its own score s is not corrected; Yi et al. do so.

    Args:
        positive: scores s of the targets.
        negative: scores s_j of the negatives, the lowest number where one is the target itself.
        log_expected: log E_j.
    """
    return F.softplus((negative - log_expected).logsumexp(1) - positive).mean()


class SampledSoftmax(nn.Module):
    """The loss for catalogues of which no step could score every item.

    Args:
        sampler: draws the negatives.
    """

    def __init__(self, sampler: Sampler) -> None:
        super().__init__()
        self.sampler = sampler

    def forward(
        self,
        hidden: Float[Tensor, "positions width"],
        targets: Int[Tensor, " positions"],
        vectors: Vectors,
        seen: Seen | None = None,
    ) -> Float[Tensor, ""]:
        """As every loss; items that were seen are drawn like others."""
        drawn = self.sampler(targets)
        return sampled_softmax(*scores(hidden, targets, drawn.items, vectors), drawn.log_expected)
