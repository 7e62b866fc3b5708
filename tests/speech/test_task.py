import math
from pathlib import Path

import numpy as np
import pytest
import torch

from headwise.training.fit import fit
from headwise.training.optimization import OptimizerSettings
from headwise.training.settings import FitSettings
from headwise_speech.augmentation import SpecAugment
from headwise_speech.batches import Batch, SpeechBatches
from headwise_speech.model import recogniser
from headwise_speech.task import MONITOR, RecogniserTask, attention_map, ctc_loss
from headwise_speech.text import Vocabulary
from headwise_speech.utterances import Utterances, quantise

TONES = {"DO": 500, "RE": 1500, "MI": 3000}  # Hz


def sung(words: list[str]) -> np.ndarray:
    time = np.arange(4_001) / 16_000
    notes = [np.sin(2 * np.pi * TONES[word] * time) * np.hanning(len(time)) for word in words]
    return quantise(0.3 * np.concatenate(notes).astype(np.float32))


@pytest.fixture(scope="module")
def data() -> Utterances:
    rng = np.random.default_rng(3)
    texts = [[str(word) for word in rng.choice(list(TONES), rng.integers(1, 4))] for _ in range(67)]
    waveforms = [sung(words) for words in texts]
    return Utterances(
        samples=np.concatenate(waveforms),
        offsets=np.cumsum([0, *map(len, waveforms)]),
        ids=[f"u{i}" for i in range(67)],
        texts=[" ".join(words) for words in texts],
        speakers=[""] * 67,
        splits=["train"] * 59 + ["valid"] * 8,
        sample_rate=16_000,
        name="tones",
        fingerprint="",
        source="",
    )


def task(data: Utterances) -> tuple[RecogniserTask, SpeechBatches]:
    torch.manual_seed(3)
    vocabulary = Vocabulary.of(data.texts)
    model = recogniser(len(vocabulary), width=32, blocks=1, heads=2, span=5, channels=5, mels=20, dropout=0.0)
    model.front_end.calibrate(torch.from_numpy(data.waveform(i)) for i in data.subset("train"))
    settings = OptimizerSettings(rate=4e-3, warmup=20)
    augment = SpecAugment(bands=1, band=2, stretches=1, stretch=3)
    return RecogniserTask(model, vocabulary, settings, augment), SpeechBatches(
        data, vocabulary, seconds=5, speeds=(1.0,)
    )


def test_loss_by_hand() -> None:
    # Token 1 of probability 0.3, blank 0.5, two frames: 1 1, 1 -, - 1 = 0.09 + 0.15 + 0.15; one frame cannot hold two tokens.
    log_probs = torch.tensor([0.5, 0.3, 0.2]).log().expand(2, 2, 3)
    tokens, lengths = torch.tensor([[1, 0], [1, 2]]), torch.tensor([1, 2])
    batch = Batch(torch.empty(0), torch.empty(0), tokens, lengths, torch.empty(0))
    loss = ctc_loss(log_probs, torch.tensor([2, 1]), batch)
    assert float(loss) == pytest.approx(-math.log(0.39) / 3)


def test_attention_map_is_one_row_a_frame(data: Utterances) -> None:
    model = task(data)[0].model.train()
    weights = attention_map(model, torch.from_numpy(data.waveform(0)))
    assert weights.shape[:2] == (1, 2)
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
    assert model.training


@pytest.mark.slow
def test_learns_three_tones(data: Utterances, tmp_path: Path) -> None:
    settings = FitSettings(epochs=25, patience=0, average=0.9, accelerator="cpu", threads=1)
    fitted = fit(*task(data), settings=settings, folder=tmp_path, monitor=MONITOR, mode="min")
    assert fitted.score < 0.2
    assert {"train/loss", "valid/loss", "valid/wer", "valid/cer"} <= set(fitted.history[-1])
