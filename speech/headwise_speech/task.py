"""How the recogniser learns: loss, validation and optimiser, for Lightning."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from headwise.training.optimization import OptimizerSettings, adamw
from headwise_speech.augmentation import SpecAugment
from headwise_speech.batches import Batch
from headwise_speech.decoding import greedy
from headwise_speech.metrics import character_counts, word_counts
from headwise_speech.model import Recogniser
from headwise_speech.text import Vocabulary

MONITOR = "valid/wer"  # what a checkpoint is chosen by; lower is better


class RecogniserTask(pl.LightningModule):
    """CTC training of a recogniser; validation decodes greedily.

    Args:
        model: its front end calibrated on the training set.
        vocabulary: what its tokens stand for.
        optimization: rate and schedule.
        augment: what is hidden from the spectrograms of training.
    """

    def __init__(
        self, model: Recogniser, vocabulary: Vocabulary, optimization: OptimizerSettings, augment: SpecAugment
    ) -> None:
        super().__init__()
        self.model, self.vocabulary = model, vocabulary
        self.optimization, self.augment = optimization, augment
        self._references: list[str] = []
        self._hypotheses: list[str] = []

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of the augmented batch."""
        spectrogram, frames = self._spectrogram(batch)
        hidden = self.augment(spectrogram, frames, batch.seeds)
        loss = ctc_loss(*self.model.log_probs(hidden, frames), batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.lengths), prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Loss, and what is heard."""
        log_probs, frames = self.model.log_probs(*self._spectrogram(batch))
        self.log("valid/loss", ctc_loss(log_probs, frames, batch), batch_size=len(batch.lengths))
        self._references += map(self.vocabulary.decode, batch.tokens.tolist())
        for row, length in zip(log_probs.cpu().numpy(), frames.tolist(), strict=True):
            self._hypotheses.append(greedy(row, self.vocabulary, length).text)

    def on_validation_epoch_end(self) -> None:
        """Word and character error rates over the whole set."""
        self.log("valid/wer", _rate(word_counts(self._references, self._hypotheses)), prog_bar=True)
        self.log("valid/cer", _rate(character_counts(self._references, self._hypotheses)))
        self._references.clear()
        self._hypotheses.clear()

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule."""
        return adamw(self, self.optimization, int(self.trainer.estimated_stepping_batches))

    def _spectrogram(self, batch: Batch) -> tuple[Tensor, Tensor]:
        # The front end needs single precision; with nothing to learn in it, it needs no gradients.
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            spectrogram, frames = self.model.front_end(batch.waveform, batch.lengths)
        return spectrogram, frames


def ctc_loss(
    log_probs: Float[Tensor, "batch time vocab"], frames: Int[Tensor, " batch"], batch: Batch
) -> Float[Tensor, ""]:
    """-log P(transcript | audio), over all alignments of each utterance (Graves et al. 2006, eq. 8), per token of the batch.

    An utterance too short for its transcript counts as zero: it has no alignment.
    """
    tokens, lengths = batch.tokens, batch.token_lengths
    total = F.ctc_loss(log_probs.transpose(0, 1), tokens, frames, lengths, reduction="sum", zero_infinity=True)
    return total / lengths.sum().clamp(min=1)


@torch.no_grad()
def attention_map(model: Recogniser, waveform: Float[Tensor, " samples"]) -> Float[Tensor, "blocks heads time time"]:
    """Who looks at whom in one utterance: how much of every 40 ms each 40 ms takes, in each head of each block."""
    training = model.training
    weights, _ = model.eval().attention_weights(waveform[None], torch.tensor([len(waveform)], device=waveform.device))
    model.train(training)
    return torch.cat(weights)


def _rate(counts: NDArray[np.int64]) -> float:
    hits, substitutions, deletions, insertions = counts.sum(0)
    return float((substitutions + deletions + insertions) / max(1, hits + substitutions + deletions))
