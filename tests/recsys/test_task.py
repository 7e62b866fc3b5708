from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from headwise.training.fit import fit
from headwise.training.optimization import OptimizerSettings
from headwise.training.settings import FitSettings
from headwise.training.sparse import make_sparse
from headwise_recsys.batches import InteractionBatches, Packed
from headwise_recsys.interactions import Interactions
from headwise_recsys.losses import BinaryCrossEntropy, Mixed, SampledSoftmax, Uniform, calibrated
from headwise_recsys.metrics import evaluate
from headwise_recsys.model import SASRec, sasrec
from headwise_recsys.splits import leave_one_out
from headwise_recsys.task import ModelScorer, RecommenderTask

ITEMS, WINDOW, USERS = 23, 7, 131
STEPS = 3, 5  # what comes next lies 3 items on, or 5 where the user came that way: the last two items tell


@pytest.fixture(scope="module")
def data() -> Interactions:
    rng = np.random.default_rng(3)
    lengths = rng.integers(5, 18, USERS)
    first, step = rng.integers(0, ITEMS, USERS), rng.choice(STEPS, USERS)
    rows = [
        (start + step * np.arange(length)) % ITEMS + 1 for start, step, length in zip(first, step, lengths, strict=True)
    ]
    return Interactions(
        items=np.concatenate(rows).astype(np.int32),
        times=None,
        offsets=np.cumsum([0, *lengths]),
        user_ids=list(range(USERS)),
        item_ids=list(range(1, ITEMS + 1)),
        titles=None,
        name="circles",
        fingerprint="",
        source="",
    )


def model(dropout: float = 0.0) -> SASRec:
    torch.manual_seed(3)
    return sasrec(ITEMS, window=WINDOW, width=22, blocks=1, heads=1, dropout=dropout)


def batches(data: Interactions) -> InteractionBatches:
    return InteractionBatches(data, leave_one_out(data), window=WINDOW, tokens=211, seed=3)


def task(data: Interactions, rate: float = 1e-2) -> RecommenderTask:
    return RecommenderTask(model(), data, OptimizerSettings(rate=rate, warmup=5))


def settings(epochs: int, **others: object) -> FitSettings:
    return FitSettings(epochs=epochs, patience=0, accelerator="cpu", threads=1, **others)  # type: ignore[arg-type]


def test_the_loss_is_the_textbook_one_at_the_real_positions(
    data: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = task(data)
    monkeypatch.setattr(learner, "log", lambda *args, **options: None)  # there is no trainer to log to
    batch: Packed = next(iter(batches(data).train_dataloader()))
    assert 0 < (batch.targets == 0).sum() < batch.targets.numel() / 10
    logits = learner.model(batch.items, batch.at) @ learner.model.embedding.weight.T
    want = F.cross_entropy(logits[..., 1:].flatten(0, 1), batch.targets.flatten() - 1, ignore_index=-1)
    torch.testing.assert_close(learner.training_step(batch, 0), want)


def test_a_batch_without_a_target_moves_nothing(data: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = task(data)
    monkeypatch.setattr(learner, "log", lambda *args, **options: None)
    batch: Packed = next(iter(batches(data).train_dataloader()))
    loss = learner.training_step(batch._replace(targets=torch.zeros_like(batch.targets), weight=0.0), 0)
    loss.backward()
    assert loss.item() == 0
    gradients = [parameter.grad for parameter in learner.model.parameters() if parameter.grad is not None]
    assert not any(gradient.any() for gradient in gradients)


def test_learns_what_the_last_two_items_tell(data: Interactions, tmp_path: Path) -> None:
    split, learner = leave_one_out(data), task(data)
    fitted = fit(learner, batches(data), settings=settings(25), folder=tmp_path, monitor="valid/ndcg_10", mode="max")
    assert {"train/loss", "valid/ndcg_10", "valid/hr_10"} <= set(fitted.history[-1])
    assert fitted.history[0]["train/loss"] > 2.5
    assert fitted.history[-1]["train/loss"] < 1

    best = model()
    weights = torch.load(fitted.best, weights_only=True)["state_dict"]
    best.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    assert evaluate(ModelScorer(best), data, split.test).metrics((1,))["hr_1"] > 0.95
    judged = evaluate(ModelScorer(best), data, split.valid).metrics((10,))
    assert fitted.score == pytest.approx(judged["ndcg_10"])  # selection and evaluation are one measure
    assert not best.embedding.weight[0].any()


LOSSES = {
    "sampled": lambda: SampledSoftmax(Mixed(torch.ones(ITEMS + 1), 17)),
    "bce": lambda: BinaryCrossEntropy(Uniform(ITEMS, 1, shared=False)),
    "gbce": lambda: BinaryCrossEntropy(Uniform(ITEMS, 2, shared=False), calibrated(2, ITEMS, 0.5)),
}


def sparse_task(data: Interactions, loss: str) -> RecommenderTask:
    learner = model(dropout=0.1)
    make_sparse(learner, rows=ITEMS)
    return RecommenderTask(learner, data, OptimizerSettings(rate=1e-2, warmup=5), LOSSES[loss]())


@pytest.mark.parametrize("loss", LOSSES)
def test_learns_by_drawn_negatives_with_a_sparse_table(data: Interactions, tmp_path: Path, loss: str) -> None:
    fitted = fit(
        sparse_task(data, loss),
        batches(data),
        settings=settings(12, average=0.9, clip=1.0),
        folder=tmp_path,
        monitor="valid/hr_10",
        mode="max",
    )
    assert fitted.history[-1]["train/loss"] < 0.7 * fitted.history[0]["train/loss"]
    assert fitted.history[-1]["valid/ndcg_10"] > 0.7  # at random it would be 0.3


def test_a_sparse_run_that_was_stopped_goes_on_to_the_same_bits(data: Interactions, tmp_path: Path) -> None:
    def weights(folder: Path, *, stop: bool) -> dict[str, torch.Tensor]:
        for stops in (True, False) if stop else (False,):
            learner = sparse_task(data, "sampled")
            if stops:
                learner.on_validation_epoch_start = lambda learner=learner: 1 // (2 - learner.current_epoch)
            try:
                fit(
                    learner,
                    batches(data),
                    settings=settings(4, average=0.9),
                    folder=folder,
                    monitor="valid/ndcg_10",
                    mode="max",
                )
            except ZeroDivisionError:
                assert stops
        return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["current_model_state"]

    whole, continued = weights(tmp_path / "whole", stop=False), weights(tmp_path / "continued", stop=True)
    assert all(torch.equal(value, continued[name]) for name, value in whole.items())


def test_trains_in_mixed_precision(data: Interactions, tmp_path: Path) -> None:
    fitted = fit(
        task(data, rate=3e-3),
        batches(data),
        settings=settings(2, precision="bf16-mixed", clip=0),
        folder=tmp_path,
        monitor="valid/ndcg_10",
        mode="max",
    )
    assert fitted.history[1]["train/loss"] < fitted.history[0]["train/loss"]


def test_a_scorer_looks_at_the_window_and_not_at_its_batch_mates(data: Interactions) -> None:
    scorer, queries = ModelScorer(model(dropout=0.5).train()), leave_one_out(data).test
    together = scorer(data, queries[:17])
    assert together.shape == (17, ITEMS + 1)
    assert together.dtype == np.float32
    for row in range(17):
        history = data.items[queries.starts[row] : queries.stops[row]][-WINDOW:]
        with torch.no_grad():
            alone = scorer.model.scores(
                scorer.model.expects(torch.from_numpy(history[None].astype(np.int64)), torch.tensor([len(history)]))
            )
        np.testing.assert_allclose(together[row], alone[0], atol=1e-5)
