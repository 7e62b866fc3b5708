"""Training once more, when the epochs are chosen, on all that comes before the test."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from headwise.training.checkpoints import load
from headwise_pipelines.recsys import train
from headwise_pipelines.recsys.presets import shopping
from headwise_recsys.interactions import Interactions
from headwise_recsys.splits import leave_one_out

LENGTHS = (5, 11, 7, 3, 13)


@pytest.fixture
def data() -> Interactions:
    return Interactions(
        items=np.random.default_rng(3).integers(1, 18, sum(LENGTHS)).astype(np.int32),
        times=None,
        offsets=np.cumsum([0, *LENGTHS]),
        user_ids=list(range(len(LENGTHS))),
        item_ids=list(range(17)),
        titles=None,
        name="toys",
        fingerprint="",
        source="",
    )


def test_it_trains_for_the_chosen_epochs_with_the_validation_events_too(
    data: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shopping()
    config = replace(whole, refit=True, model=replace(whole.model, width=14), fit=replace(whole.fit, epochs=5))
    split, fits = leave_one_out(data), []
    true_fit = train.fit

    def watched(task: Any, batches: Any, **how: Any) -> Any:
        fits.append((int(sum((batch.targets > 0).sum() for batch in batches.train_dataloader())), how))
        return true_fit(task, batches, **how)

    monkeypatch.setattr(train, "fit", watched)
    launched: Any = SimpleNamespace(begin=lambda *_: None, folder=SimpleNamespace(path=tmp_path), run=None)
    _, first = train._fit(launched, config, data, split)
    first = replace(first, epoch=3)
    task, fitted = train._refit(launched, config, data, split, first)

    (targets, _), (targets_again, how) = fits
    assert targets_again == targets + len(LENGTHS)  # one validation event a user
    assert targets_again == sum(LENGTHS) - 2 * len(LENGTHS)  # all but each user's first and the test
    assert (how["settings"].epochs, how["settings"].patience, how["tracker"]) == (3, 0, None)
    assert fitted == replace(first, best=tmp_path / "refit" / "checkpoints" / "best.ckpt")
    assert load(fitted.best)["epoch"] == 2  # the last of three, counted from 0
    train.restore(task, fitted.best)
    assert not torch.equal(task.model.embedding.weight, load(first.best)["state_dict"]["model.embedding.weight"])
