"""From utterances to batches: about the same number of seconds each, of utterances of about the same length."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from headwise_speech.augmentation import SPEEDS, change_speed
from headwise_speech.text import Vocabulary
from headwise_speech.utterances import Utterances

SEEDS = 2**31  # a batch's seeds lie below
JITTER = 0.1  # standard deviation of log duration when utterances are sorted, so that their neighbours change


Elsewhere = Callable[[Tensor, int], Tensor]
"""From a waveform and a seed to the waveform as it would sound elsewhere, such as `Surroundings`."""


class Batch(NamedTuple):
    """Utterances, right-padded to the longest.

    Attributes:
        waveform: [batch, samples] float32.
        lengths: [batch] samples of each.
        tokens: [batch, longest] their transcripts, padded with 0.
        token_lengths: [batch] tokens of each.
        seeds: [batch] what else is random about an utterance is drawn from these.
    """

    waveform: Tensor
    lengths: Tensor
    tokens: Tensor
    token_lengths: Tensor
    seeds: Tensor


class Drawn(NamedTuple):
    """An utterance and how it is to be heard this time."""

    utterance: int
    speed: float
    seed: int


class BatchOrder(Sampler[list[Drawn]]):
    """The batches of an epoch; the same seed and epoch give the same batches.

    Args:
        durations: seconds of every utterance of the corpus.
        indices: which of them are trained on.
        seconds: of audio in a batch, about.
        speeds: what an utterance's speed is drawn from.
        seed: of all that is drawn.
    """

    def __init__(
        self,
        durations: NDArray[np.float64],
        indices: NDArray[np.int64],
        *,
        seconds: float,
        speeds: Sequence[float],
        seed: int,
    ) -> None:
        self.durations, self.indices, self.speeds = durations[indices], indices, np.array(speeds)
        self.seed, self.epoch = seed, 0
        self.batches = max(1, round(float(self.durations.sum()) / seconds))

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration is; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[Drawn]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        speeds = rng.choice(self.speeds, len(self.indices))
        seeds = rng.integers(0, SEEDS, len(self.indices))
        durations = self.durations / speeds
        order = np.argsort(durations * np.exp(rng.normal(0, JITTER, len(durations))), kind="stable")
        batches = _cut(order, durations, self.batches)
        for batch in rng.permutation(len(batches)):
            rows = batches[batch]
            drawn = zip(self.indices[rows].tolist(), speeds[rows].tolist(), seeds[rows].tolist(), strict=True)
            yield [Drawn(*one) for one in drawn]


def _cut(order: NDArray[np.int64], durations: NDArray[np.float64], count: int) -> list[NDArray[np.int64]]:
    # An utterance belongs to the batch that its middle falls into.
    passed = np.cumsum(durations[order]) - durations[order] / 2
    edges = np.linspace(0, durations.sum(), count + 1)[1:-1]
    return [rows for rows in np.split(order, np.searchsorted(passed, edges)) if len(rows)]


class Spoken(Dataset[Batch]):
    """Turns lists of drawn utterances into tensors.

    A character that no training text has cannot be learnt: where another part has it, it is left out of the tokens.

    Args:
        data: the utterances.
        vocabulary: what transcripts are written with.
        surroundings: where they seem to be spoken; where they were where None.
    """

    def __init__(self, data: Utterances, vocabulary: Vocabulary, surroundings: Elsewhere | None = None) -> None:
        self.data, self.surroundings = data, surroundings
        self.tokens = [
            torch.tensor(vocabulary.encode(vocabulary.writable(text)), dtype=torch.long) for text in data.texts
        ]

    def __getitem__(self, batch: list[Drawn]) -> Batch:
        waveforms = [self._heard(drawn) for drawn in batch]
        tokens = [self.tokens[u.utterance] for u in batch]
        return Batch(
            torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True),
            torch.tensor([len(waveform) for waveform in waveforms]),
            torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True),
            torch.tensor([len(row) for row in tokens]),
            torch.tensor([u.seed for u in batch]),
        )

    def _heard(self, drawn: Drawn) -> Tensor:
        waveform = change_speed(torch.from_numpy(self.data.waveform(drawn.utterance)), drawn.speed)
        return waveform if self.surroundings is None else self.surroundings(waveform, drawn.seed)


class SpeechBatches(pl.LightningDataModule):
    """Training and validation batches of a prepared corpus.

    Args:
        data: the utterances; those of split "train" are trained on, those of "valid" choose the checkpoint.
        vocabulary: what transcripts are written with.
        seconds: of audio in a training batch, about; a validation batch holds twice as much.
        speeds: what the speed of a training utterance is drawn from.
        surroundings: where training utterances seem to be spoken.
        seed: of order, speeds and masks.
    """

    def __init__(
        self,
        data: Utterances,
        vocabulary: Vocabulary,
        *,
        seconds: float,
        speeds: Sequence[float] = SPEEDS,
        surroundings: Elsewhere | None = None,
        seed: int = 1,
    ) -> None:
        super().__init__()
        self.spoken, self.elsewhere = Spoken(data, vocabulary), Spoken(data, vocabulary, surroundings)
        self.order = BatchOrder(data.durations, data.subset("train"), seconds=seconds, speeds=speeds, seed=seed)
        self.valid = evenly(data, data.subset("valid"), seconds=2 * seconds)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches as `BatchOrder` draws them."""
        return DataLoader(self.elsewhere, batch_size=None, sampler=self.order)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every validation utterance as it was spoken, shortest first."""
        return DataLoader(self.spoken, batch_size=None, sampler=self.valid)


def evenly(data: Utterances, indices: NDArray[np.int64], *, seconds: float) -> list[list[Drawn]]:
    """Utterances as they were spoken, sorted by length and cut into batches of about `seconds` of audio."""
    durations = data.durations[indices]
    count = max(1, round(float(durations.sum()) / seconds))
    batches = _cut(np.argsort(durations, kind="stable"), durations, count)
    return [[Drawn(index, 1.0, 0) for index in indices[rows].tolist()] for rows in batches]
