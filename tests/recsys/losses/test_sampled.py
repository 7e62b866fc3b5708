import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from headwise_recsys.losses import Mixed, SampledSoftmax, Uniform, sampled_softmax, softmax_cross_entropy
from headwise_recsys.losses.negatives import Drawn

POSITIONS, WIDTH, ITEMS = 23, 5, 11


def given() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(POSITIONS, WIDTH, generator=generator, dtype=torch.float64, requires_grad=True)
    table = torch.randn(ITEMS + 1, WIDTH, generator=generator, dtype=torch.float64, requires_grad=True)
    return hidden, table, torch.randint(1, ITEMS + 1, (POSITIONS,), generator=generator)


class Everything:
    """The whole catalogue as negatives, each item once."""

    count = ITEMS

    def __call__(self, targets: Tensor) -> Drawn:
        return Drawn(torch.arange(1, ITEMS + 1), torch.zeros(ITEMS))


def test_by_hand() -> None:
    # e^s = 2; one negative of e^s = 3 expected 1/2 times, another of 4 expected twice: -log(2 / (2 + 6 + 2)).
    scores = torch.tensor([2.0]).log(), torch.tensor([[3.0, 4.0]]).log(), torch.tensor([0.5, 2.0]).log()
    assert sampled_softmax(*scores).item() == pytest.approx(math.log(5))


def test_with_all_items_as_negatives_it_is_the_exact_softmax() -> None:
    hidden, table, targets = given()
    got = SampledSoftmax(Everything())(hidden, targets, lambda items: table[items])
    want = softmax_cross_entropy(hidden, table[1:], targets - 1)
    torch.testing.assert_close(got, want)
    for mine, exact in zip(
        torch.autograd.grad(got, (hidden, table)), torch.autograd.grad(want, (hidden, table)), strict=True
    ):
        torch.testing.assert_close(mine, exact)


def test_equals_the_formula_written_plainly_and_so_do_its_gradients() -> None:
    hidden, table, targets = given()
    negatives, expected = torch.tensor([2, 3, 3, 7, 11]), torch.tensor([0.5, 2, 2, 0.25, 1], dtype=torch.float64)

    class Fixed:
        count = 5

        def __call__(self, targets: Tensor) -> Drawn:
            return Drawn(negatives, expected.log())

    got = SampledSoftmax(Fixed())(hidden, targets, lambda items: table[items])
    losses = []
    for place, target in enumerate(targets.tolist()):
        e = {item: (hidden[place] @ table[item]).exp() for item in {target, *negatives.tolist()}}
        rest = [e[j] / n for j, n in zip(negatives.tolist(), expected, strict=True) if j != target]
        losses.append(-(e[target] / (e[target] + sum(rest))).log())
    want = torch.stack(losses).mean()
    torch.testing.assert_close(got, want)
    for mine, plain in zip(
        torch.autograd.grad(got, (hidden, table)), torch.autograd.grad(want, (hidden, table)), strict=True
    ):
        torch.testing.assert_close(mine, plain)


@pytest.mark.parametrize("in_batch", [0.0, 0.5])
def test_the_sum_over_the_catalogue_is_estimated_without_bias(in_batch: float) -> None:
    hidden, table, targets = given()
    popularity = torch.bincount(targets, minlength=ITEMS + 1).float()
    sampler = Mixed(popularity, 6, in_batch=in_batch)
    with torch.no_grad():
        exact = (hidden @ table[1:].T).exp().sum(1) - (hidden * table[targets]).sum(1).exp()
        torch.manual_seed(3)
        estimates = []
        for _ in range(6000):
            drawn = sampler(targets)
            scores = (hidden @ table[drawn.items].T).masked_fill(drawn.items == targets[:, None], -math.inf)
            estimates.append((scores - drawn.log_expected).exp().sum(1))
    mean = torch.stack(estimates).mean(0)
    torch.testing.assert_close(mean, exact, rtol=0.05, atol=0)


def test_a_position_whose_negatives_are_all_its_target_learns_nothing() -> None:
    hidden, table, _ = given()
    targets = torch.full((POSITIONS,), 2)

    class Same:
        count = 3

        def __call__(self, targets: Tensor) -> Drawn:
            return Drawn(torch.tensor([2, 2, 2]), torch.zeros(3))

    loss = SampledSoftmax(Same())(hidden, targets, lambda items: table[items])
    assert loss.item() == 0
    assert not any(gradient.any() for gradient in torch.autograd.grad(loss, (hidden, table)))


def test_a_sparse_table_gets_sparse_gradients_of_the_same_values() -> None:
    hidden, table, targets = given()
    loss = SampledSoftmax(Uniform(ITEMS, 4))
    gradients = []
    for sparse in (True, False):
        torch.manual_seed(7)
        value = loss(hidden, targets, lambda items, sparse=sparse: F.embedding(items, table, sparse=sparse))
        gradients.append(torch.autograd.grad(value, table)[0])
    assert gradients[0].is_sparse
    torch.testing.assert_close(gradients[0].to_dense(), gradients[1])
