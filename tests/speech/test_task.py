from pathlib import Path

import numpy as np
import pytest
import torch

from headwise.training.fit import fit
from headwise.training.optimization import OptimizerSettings
from headwise.training.settings import FitSettings
from headwise_speech.augmentation import SpecAugment
from headwise_speech.batches import SpeechBatches
from headwise_speech.losses import LossSettings
from headwise_speech.model import recogniser
from headwise_speech.task import MONITOR, RecogniserTask, attention_map
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


def task(data: Utterances, loss: LossSettings | None = None, **sizes: int) -> tuple[RecogniserTask, SpeechBatches]:
    torch.manual_seed(3)
    vocabulary = Vocabulary.of(data.texts)
    sizes = {"width": 32, "blocks": 1, "heads": 2, "span": 5, "channels": 5, "mels": 20} | sizes
    model = recogniser(len(vocabulary), **sizes, dropout=0.0)  # type: ignore[arg-type]
    model.front_end.calibrate(torch.from_numpy(data.waveform(i)) for i in data.subset("train"))
    settings = OptimizerSettings(rate=4e-3, warmup=20)
    augment = SpecAugment(bands=1, band=2, stretches=1, stretch=3)
    return RecogniserTask(model, vocabulary, settings, augment, loss), SpeechBatches(
        data, vocabulary, seconds=5, speeds=(1.0,)
    )


@pytest.mark.parametrize("loss", [LossSettings(), LossSettings(intermediate=0.3, consistency=0.2)], ids=repr)
def test_parts_sum_to_the_loss_and_all_that_is_learnt_has_a_gradient(data: Utterances, loss: LossSettings) -> None:
    learning, batches = task(data, loss, blocks=2, decoder_blocks=1)
    logged: dict[str, float] = {}
    learning.log = lambda name, value, **_: logged.__setitem__(name, float(value.detach()))  # type: ignore[method-assign,assignment]
    total = learning.training_step(next(iter(batches.train_dataloader())), 0)
    total.backward()
    parts = {"ctc", "attention"} | ({"intermediate", "consistency"} if loss.consistency else set())
    assert logged.keys() == {"train/loss"} | {f"train/{part}" for part in parts}
    assert sum(logged.values()) == pytest.approx(2 * float(total.detach()), rel=1e-5)
    assert all(parameter.grad is not None for parameter in learning.parameters())


def test_a_consistent_recogniser_hears_each_utterance_twice(data: Utterances) -> None:
    learning, batches = task(data, LossSettings(consistency=0.2))
    seen: list[int] = []
    learning.model.subsampling.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    learning.log = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    batch = next(iter(batches.train_dataloader()))
    learning.training_step(batch, 0)
    assert seen == [2 * len(batch.lengths)]
    assert learning.augment.stretches == 2  # 2.5 times 1


def test_attention_map_is_one_row_a_frame(data: Utterances) -> None:
    model = task(data)[0].model.train()
    weights = attention_map(model, torch.from_numpy(data.waveform(0)))
    assert weights.shape[:2] == (1, 2)
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
    assert model.training


def test_a_streaming_recogniser_trains_whole_and_in_chunks_by_its_seeds(data: Utterances) -> None:
    learning, batches = task(data, chunk=3, left=5)
    batch = next(iter(batches.train_dataloader()))
    drawn = [learning._drawn_mask(batch._replace(seeds=batch.seeds + number)) for number in range(80)]
    again = learning._drawn_mask(batch._replace(seeds=batch.seeds + 7))
    sizes = [0 if mask is None else mask.chunk for mask in drawn]
    assert sizes[7] == (0 if again is None else again.chunk)
    assert set(sizes) == {0, 1, 2, 3, 4, 5, 6}
    assert 25 < sizes.count(0) < 55
    assert all(mask.back == 5 + mask.chunk - 1 for mask in drawn if mask)
    assert task(data)[0]._drawn_mask(batch) is None


def test_validation_tells_both_error_rates(data: Utterances) -> None:
    learning, batches = task(data, chunk=3, left=5)
    logged: dict[str, float] = {}
    learning.log = lambda name, value, **_: logged.__setitem__(name, float(value))  # type: ignore[method-assign,assignment]
    learning.eval()
    with torch.no_grad():
        for batch in batches.val_dataloader():
            learning.validation_step(batch, 0)
    learning.on_validation_epoch_end()
    assert logged.keys() == {
        "valid/loss",
        *(f"valid/{rate}{how}" for rate in ("wer", "cer") for how in ("", "_streaming")),
    }


@pytest.mark.slow
def test_learns_three_tones(data: Utterances, tmp_path: Path) -> None:
    settings = FitSettings(epochs=25, patience=0, average=0.9, accelerator="cpu", threads=1)
    fitted = fit(*task(data), settings=settings, folder=tmp_path, monitor=MONITOR, mode="min")
    assert fitted.score < 0.2
    assert {"train/loss", "valid/loss", "valid/wer", "valid/cer"} <= set(fitted.history[-1])
