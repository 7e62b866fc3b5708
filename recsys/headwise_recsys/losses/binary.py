"""Binary cross-entropy: each item a question of its own, right or wrong; and its calibrated form, gBCE."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from headwise_recsys.losses.loss import Seen, Vectors
from headwise_recsys.losses.negatives import Sampler, scores


def binary_cross_entropy(
    positive: Float[Tensor, " positions"], negative: Float[Tensor, "positions negatives"], beta: float = 1.0
) -> Float[Tensor, ""]:
    """Mean of -(beta log sigma(s) + sum_j log(1 - sigma(s_j))) / (1 + k) over positions, k negatives each.

    With `beta` 1 it is the loss of SASRec (Kang & McAuley 2018), which has one negative and no 1 / (1 + k); below 1 it
    is gBCE (Petrov & Macdonald 2023), which takes the confidence out of scores learned against too few negatives.

    Args:
        positive: scores s of the targets.
        negative: scores s_j of the negatives, the lowest number where one is the target itself.
        beta: power of the target's probability.
    """
    wrong = F.softplus(negative).sum(1)
    return ((beta * F.softplus(-positive) + wrong) / (1 + negative.shape[1])).mean()


def calibrated(negatives: int, items: int, calibration: float) -> float:
    """The power beta = a (t (1 - 1/a) + 1/a) = 1 - t (1 - a) of gBCE (Petrov & Macdonald 2023, section 5).

    Args:
        negatives: k, drawn for a position.
        items: V, in the catalogue; the share of wrong items that is drawn is a = k / (V - 1), 1 at most.
        calibration: t, from 0, plain binary cross-entropy, to 1, probabilities as if no item had been left out.
    """
    drawn = min(1.0, negatives / max(1, items - 1))
    return 1 - calibration * (1 - drawn)


class BinaryCrossEntropy(nn.Module):
    """The loss of SASRec, and of gSASRec where it is calibrated.

    Args:
        sampler: draws the negatives, with the same chance for every item.
        beta: power of the target's probability; see `calibrated`.
    """

    def __init__(self, sampler: Sampler, beta: float = 1.0) -> None:
        super().__init__()
        self.sampler, self.beta = sampler, beta

    def forward(
        self,
        hidden: Float[Tensor, "positions width"],
        targets: Int[Tensor, " positions"],
        vectors: Vectors,
        seen: Seen | None = None,
    ) -> Float[Tensor, ""]:
        """As every loss; items that were seen are drawn like others."""
        return binary_cross_entropy(*scores(hidden, targets, self.sampler(targets).items, vectors), self.beta)
