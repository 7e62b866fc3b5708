import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import AdamW

from headwise.training.optimization import OptimizerSettings, adamw
from headwise.training.sparse import AdamWithSparseTables, clip

ITEMS, WIDTH = 13, 5
SETTINGS = OptimizerSettings(rate=0.1, decay=0.3, warmup=2, schedule="constant")


class Model(nn.Module):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.items = nn.Embedding(ITEMS, WIDTH, padding_idx=0, sparse=sparse)
        self.project = nn.Linear(WIDTH, 7)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        return self.project(self.items(items)).square().sum() + self.items(items[:2]).sum()


def train(model: Model, parts: dict, batches: list[torch.Tensor]) -> None:
    for batch in batches:
        parts["optimizer"].zero_grad()
        parts["optimizer"].step(lambda batch=batch: model(batch).backward())
        parts["lr_scheduler"]["scheduler"].step()


EVERY = [torch.randperm(ITEMS - 1, generator=torch.Generator().manual_seed(seed)) + 1 for seed in range(5)]


def test_where_every_row_is_touched_it_is_adamw() -> None:
    sparse, dense = Model(True), Model(False)
    for model in (sparse, dense):
        train(model, adamw(model, SETTINGS, steps=5), EVERY)
    assert sparse.items.weight.grad.is_sparse
    for mine, usual in zip(sparse.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(mine, usual)


def test_rows_that_no_step_touched_stay_and_forget_nothing() -> None:
    model = Model(True)
    parts = adamw(model, SETTINGS, steps=5)
    train(model, parts, [torch.tensor([2, 3, 5])])
    weight, mean = model.items.weight.detach().clone(), parts["optimizer"].state[model.items.weight]["exp_avg"].clone()
    train(model, parts, [torch.tensor([2, 7])])
    after = parts["optimizer"].state[model.items.weight]["exp_avg"]
    assert (model.items.weight != weight).any(1).nonzero().flatten().tolist() == [2, 7]
    assert torch.equal(after[[3, 5]], mean[[3, 5]])


def test_a_saved_optimizer_goes_on_to_the_same_bits() -> None:
    whole, first = Model(True), Model(True)
    train(whole, adamw(whole, SETTINGS, steps=5), EVERY)
    parts = adamw(first, SETTINGS, steps=5)
    train(first, parts, EVERY[:2])
    file = io.BytesIO()
    saved = (first.state_dict(), parts["optimizer"].state_dict(), parts["lr_scheduler"]["scheduler"].state_dict())
    torch.save(saved, file)
    file.seek(0)
    weights, optimizer, schedule = torch.load(file, weights_only=True)
    second = Model(True)
    second.load_state_dict(weights)
    parts = adamw(second, SETTINGS, steps=5)
    parts["optimizer"].load_state_dict(optimizer)
    parts["lr_scheduler"]["scheduler"].load_state_dict(schedule)
    train(second, parts, EVERY[2:])
    for mine, uninterrupted in zip(second.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, uninterrupted)


def test_the_rate_reaches_the_table() -> None:
    model = Model(True)
    parts = adamw(model, OptimizerSettings(rate=0.3, warmup=2, schedule="constant"), steps=5)
    before = model.items.weight.detach().clone()
    train(model, parts, [torch.tensor([2, 3])])
    # Adam's first step is as long as the rate, whatever the gradient: a third of the way up the warm-up here.
    moved = (model.items.weight - before).abs()[[2, 3]]
    torch.testing.assert_close(moved, torch.full_like(moved, 0.1))


def test_dense_models_keep_the_usual_optimizer() -> None:
    assert type(adamw(Model(False), SETTINGS, steps=5)["optimizer"]) is AdamW
    assert type(adamw(Model(True), SETTINGS, steps=5)["optimizer"]) is AdamWithSparseTables
    frozen = Model(True)
    frozen.items.weight.requires_grad_(False)
    assert type(adamw(frozen, SETTINGS, steps=5)["optimizer"]) is AdamW


@pytest.mark.parametrize("most", [0.7, 1e6])
def test_clipping_is_torchs_with_rows_counted_once(most: float) -> None:
    batch = torch.tensor([2, 3, 3, 5])  # item 3 twice: its two entries count as their sum
    sparse, dense = Model(True), Model(False)
    sparse(batch).backward()
    dense(batch).backward()
    norm = clip(sparse.parameters(), most)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(dense.parameters(), most))
    for mine, usual in zip(sparse.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(mine.grad.to_dense(), usual.grad)


def test_clipping_leaves_parameters_without_gradients() -> None:
    table = nn.Parameter(torch.ones(3, 2))
    F.embedding(torch.tensor([1]), table, sparse=True).sum().backward()
    assert clip([nn.Parameter(torch.ones(2)), table], 1e6).item() == pytest.approx(2**0.5)
