import math

import pytest
import torch
from torch import nn

from headwise.errors import InputError
from headwise.training.optimization import OptimizerSettings, adamw, factor


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(13, 5)
        self.project = nn.Linear(5, 7)
        self.norm = nn.LayerNorm(7)
        self.mix = nn.Conv1d(7, 7, 3)
        self.head = nn.Linear(5, 13, bias=False)
        self.head.weight = self.items.weight  # tied
        self.frozen = nn.Parameter(torch.ones(2, 3), requires_grad=False)


def test_matrices_decay_and_biases_norms_and_embeddings_do_not():
    model = Parts()
    decayed, plain = adamw(model, OptimizerSettings(decay=0.3), steps=11)["optimizer"].param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {"project.weight", "mix.weight"}
    assert {names[id(p)] for p in plain["params"]} == {
        "items.weight",
        "project.bias",
        "norm.weight",
        "norm.bias",
        "mix.bias",
    }
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)


def test_the_rate_by_hand():
    settings = OptimizerSettings(warmup=3, schedule="cosine", floor=0.1)
    rates = [factor(step, settings, steps=7) for step in range(9)]
    bend = [0.1 + 0.9 * (1 + math.cos(math.pi * part)) / 2 for part in (0, 0.25, 0.5, 0.75, 1, 1)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, *bend])
    assert bend[2] == pytest.approx(0.55)


def test_inverse_square_root_halves_when_the_steps_are_four_times_as_many():
    settings = OptimizerSettings(warmup=4, schedule="inverse-sqrt")
    assert factor(4, settings, 0) == 1
    assert factor(19, settings, 0) == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "inverse-sqrt"])
def test_the_rate_rises_through_the_warmup_and_never_after(schedule):
    settings = OptimizerSettings(warmup=5, schedule=schedule)
    rates = [factor(step, settings, steps=23) for step in range(23)]
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert max(rates) == rates[5] == 1


def test_the_optimizer_moves_its_rate_at_every_step():
    parts = adamw(nn.Linear(3, 2), OptimizerSettings(rate=0.4, warmup=1, schedule="constant"), steps=5)
    optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2)
    optimizer.step()
    schedule["scheduler"].step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.4)
    assert schedule["interval"] == "step"


def test_a_rate_of_zero_is_refused():
    with pytest.raises(InputError, match=r"optimizer.rate \(0\) must be above 0"):
        OptimizerSettings(rate=0)
