"""What a recogniser is trained for: CTC, the attention decoder, CTC halfway up, and to hear the same through different masks."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from headwise.attention import rows
from headwise.errors import InputError
from headwise_speech.batches import SEEDS, Batch
from headwise_speech.model import BLANK


@dataclass(frozen=True)
class LossSettings:
    """How much each aim counts; those at 0 cost nothing.

    Attributes:
        attention: share of the attention decoder's loss, the rest being CTC's (Kim et al. 2017);
            for a model with such a decoder.
        smoothing: share of probability that the attention decoder's targets leave to all tokens alike (Szegedy et al. 2016).
        intermediate: share of CTC's loss that is taken at the middle block (Lee & Watanabe 2021).
        consistency: weight of the divergence of two differently masked views (Yao et al. 2024; 0.2 there). A step then
            takes twice the time; more of the time is masked in it.
    """

    attention: float = 0.3
    smoothing: float = 0.1
    intermediate: float = 0.0
    consistency: float = 0.0

    def __post_init__(self) -> None:
        for name in ("attention", "smoothing", "intermediate"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"loss.{name} ({getattr(self, name)}) is a share: from 0 to below 1")
        if not self.consistency >= 0:
            raise InputError(f"loss.consistency ({self.consistency}) must be 0 or more")


def ctc_loss(
    log_probs: Float[Tensor, "batch time vocab"], frames: Int[Tensor, " batch"], batch: Batch
) -> Float[Tensor, ""]:
    """-log P(transcript | audio), over all alignments of each utterance (Graves et al. 2006, eq. 8), per token of the batch.

    An utterance too short for its transcript counts as zero: it has no alignment.
    """
    tokens, lengths = batch.tokens, batch.token_lengths
    total = F.ctc_loss(log_probs.transpose(0, 1), tokens, frames, lengths, reduction="sum", zero_infinity=True)
    return total / lengths.sum().clamp(min=1)


def attention_loss(log_probs: Float[Tensor, "batch places vocab"], batch: Batch, smoothing: float) -> Float[Tensor, ""]:
    """Cross-entropy of each token and of the end after it with smoothed targets, per token and end of the batch.

    (1 - s) (-log p(token)) + s mean over the vocabulary of (-log p), with s the smoothing.

    Args:
        log_probs: as `Recogniser.transcribed` gives them.
        batch: whose transcripts they are of.
        smoothing: of the targets.
    """
    places = log_probs.shape[1]
    targets = F.pad(batch.tokens, (0, 1), value=BLANK)  # which ends a transcript
    real = rows(batch.token_lengths + 1, places).segment > 0
    right = -log_probs.gather(2, targets[..., None]).squeeze(2)
    return ((1 - smoothing) * right - smoothing * log_probs.mean(2))[real].mean()


def consistency_loss(
    one: Float[Tensor, "batch time vocab"],
    other: Float[Tensor, "batch time vocab"],
    frames: Int[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """How far two views of the same utterances are from each other (CR-CTC, Yao et al. 2024), summed over frames.

    1/2 sum over frames of KL(sg(p) || q) + KL(sg(q) || p), where sg lets no gradient through: each view is the other's teacher.

    Args:
        one: log-probabilities of the first view.
        other: of the second.
        frames: how many frames each row has.
    """
    towards = F.kl_div(one, other.detach(), reduction="none", log_target=True)
    back = F.kl_div(other, one.detach(), reduction="none", log_target=True)
    real = rows(frames, one.shape[1]).segment > 0
    return ((towards + back).sum(2) * real).sum() / 2


def views(batch: Batch) -> Batch:
    """Every utterance twice, the second time with another seed."""
    twice = Batch(*(torch.cat([part, part]) for part in batch))
    return twice._replace(seeds=torch.cat([batch.seeds, batch.seeds + SEEDS]))
