"""How the recogniser learns: loss, validation and optimiser, for Lightning."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from headwise.attention import Mask, chunk, same_segment
from headwise.training.optimization import OptimizerSettings, adamw
from headwise_speech.augmentation import SpecAugment
from headwise_speech.batches import Batch
from headwise_speech.decoding import greedy
from headwise_speech.losses import LossSettings, attention_loss, consistency_loss, ctc_loss, views
from headwise_speech.metrics import character_counts, word_counts
from headwise_speech.model import Recogniser
from headwise_speech.text import Vocabulary

MONITOR = "valid/wer"  # what a checkpoint is chosen by; lower is better
WHOLE = 0.5  # share of the training batches that a streaming recogniser hears whole


class RecogniserTask(pl.LightningModule):
    """Training of a recogniser; validation decodes CTC greedily.

    One that streams hears every second batch in chunks of random size (U2, Zhang et al. 2020), so that the same weights hear
    whole utterances, and validation tells both error rates.

    Args:
        model: its front end calibrated on the training set.
        vocabulary: what its tokens stand for.
        optimization: rate and schedule.
        augment: what is hidden from the spectrograms of training.
        loss: what is learnt beside CTC.
    """

    def __init__(
        self,
        model: Recogniser,
        vocabulary: Vocabulary,
        optimization: OptimizerSettings,
        augment: SpecAugment,
        loss: LossSettings | None = None,
    ) -> None:
        super().__init__()
        self.model, self.vocabulary = model, vocabulary
        self.optimization, self.loss = optimization, loss or LossSettings()
        self.augment = augment.enlarged() if self.loss.consistency else augment
        self._references: list[str] = []
        self._hypotheses: dict[str, list[str]] = {}

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of the augmented batch, and of its parts."""
        spectrogram, frames = self._spectrogram(batch)
        if self.loss.consistency:
            batch, spectrogram, frames = views(batch), spectrogram.repeat(2, 1, 1), frames.repeat(2)
        hidden = self.augment(spectrogram, frames, batch.seeds)
        parts = self._parts(hidden, frames, batch)
        loss = sum(parts.values(), start=torch.zeros((), device=self.device))
        for name, value in {"loss": loss, **parts}.items():
            self.log(
                f"train/{name}",
                value,
                on_step=False,
                on_epoch=True,
                batch_size=len(batch.lengths),
                prog_bar=name == "loss",
            )
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Loss, and what is heard."""
        spectrogram, frames = self._spectrogram(batch)
        log_probs, time = self.model.log_probs(spectrogram, frames)
        self.log("valid/loss", ctc_loss(log_probs, time, batch), batch_size=len(batch.lengths))
        self._references += map(self.vocabulary.decode, batch.tokens.tolist())
        self._hear("", log_probs, time)
        if self.model.chunk:
            self._hear("_streaming", *self.model.log_probs(spectrogram, frames, self.model.streaming))

    def on_validation_epoch_end(self) -> None:
        """Word and character error rates over the whole set."""
        for how, hypotheses in self._hypotheses.items():
            self.log(f"valid/wer{how}", _rate(word_counts(self._references, hypotheses)), prog_bar=True)
            self.log(f"valid/cer{how}", _rate(character_counts(self._references, hypotheses)))
        self._references.clear()
        self._hypotheses.clear()

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule."""
        return adamw(self, self.optimization, int(self.trainer.estimated_stepping_batches))

    def _parts(self, spectrogram: Tensor, frames: Tensor, batch: Batch) -> dict[str, Tensor]:
        # Each weighted: they sum to the loss.
        depths, time = self.model.depths(spectrogram, frames, self._drawn_mask(batch))
        log_probs = self.model.read(depths[-1])
        parts = {"ctc": ctc_loss(log_probs, time, batch)}
        if share := self.loss.intermediate:
            middle = self.model.read(depths[(len(depths) - 1) // 2])
            parts = {"ctc": (1 - share) * parts["ctc"], "intermediate": share * ctc_loss(middle, time, batch)}
        if self.model.decoder is not None:
            share = self.loss.attention
            written = self.model.transcribed(depths[-1], time, batch.tokens)
            parts = {name: (1 - share) * part for name, part in parts.items()}
            parts["attention"] = share * attention_loss(written, batch, self.loss.smoothing)
        if self.loss.consistency:
            one, other = log_probs.chunk(2)
            tokens = batch.token_lengths[: len(one)].sum().clamp(min=1)
            parts["consistency"] = self.loss.consistency * consistency_loss(one, other, time[: len(one)]) / tokens
        return parts

    def _drawn_mask(self, batch: Batch) -> Mask | None:
        rng = np.random.default_rng(batch.seeds.tolist())
        if not self.model.chunk or rng.random() < WHOLE:
            return None
        return chunk(int(rng.integers(1, 2 * self.model.chunk + 1)), self.model.left) & same_segment

    def _hear(self, how: str, log_probs: Tensor, time: Tensor) -> None:
        rows = zip(log_probs.cpu().numpy(), time.tolist(), strict=True)
        heard = [greedy(row, self.vocabulary, length).text for row, length in rows]
        self._hypotheses.setdefault(how, []).extend(heard)

    def _spectrogram(self, batch: Batch) -> tuple[Tensor, Tensor]:
        # The front end needs single precision; with nothing to learn in it, it needs no gradients.
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            spectrogram, frames = self.model.front_end(batch.waveform, batch.lengths)
        return spectrogram, frames


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
