import math

import pytest
import torch
from torch.nn import functional as F

from headwise_recsys.losses import BinaryCrossEntropy, Uniform, binary_cross_entropy, calibrated

POSITIONS, WIDTH, ITEMS, NEGATIVES = 23, 5, 11, 7


def test_by_hand() -> None:
    # sigma(ln 3) = 3/4: the right one is 3/4 sure, one wrong one 3/4, the other 1/2.
    positive, negative = torch.tensor([3.0]).log(), torch.tensor([[3.0, 1.0]]).log()
    assert binary_cross_entropy(positive, negative).item() == pytest.approx(math.log(4 / 3 * 4 * 2) / 3)
    assert binary_cross_entropy(positive, negative, 0.5).item() == pytest.approx(math.log((4 / 3) ** 0.5 * 4 * 2) / 3)


def test_beta_by_hand_and_at_its_ends() -> None:
    a = 25 / 100
    assert calibrated(25, 101, 0.75) == pytest.approx(a * (0.75 * (1 - 1 / a) + 1 / a)) == 0.4375
    assert calibrated(25, 101, 0) == 1
    assert calibrated(25, 101, 1) == a
    assert calibrated(500, 101, 0.75) == 1  # as many as there are: nothing to calibrate


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_equals_the_textbook_form_and_so_do_its_gradients(shared: bool, beta: float) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(POSITIONS, WIDTH, generator=generator, dtype=torch.float64, requires_grad=True)
    table = torch.randn(ITEMS + 1, WIDTH, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(1, ITEMS + 1, (POSITIONS,), generator=generator)
    sampler = Uniform(ITEMS, NEGATIVES, shared=shared)
    torch.manual_seed(5)
    got = BinaryCrossEntropy(sampler, beta)(hidden, targets, lambda items: table[items])
    torch.manual_seed(5)
    negatives = sampler(targets).items.expand(POSITIONS, NEGATIVES)
    right = torch.sigmoid((hidden * table[targets]).sum(1)) ** beta
    wrong = torch.sigmoid(torch.einsum("pd,pnd->pn", hidden, table[negatives]))
    each = F.binary_cross_entropy(
        torch.cat([right[:, None], wrong], 1),
        F.one_hot(torch.zeros(POSITIONS).long(), NEGATIVES + 1).double(),
        reduction="none",
    )
    kept = torch.cat([torch.ones(POSITIONS, 1).bool(), negatives != targets[:, None]], 1)
    assert not kept.all()
    want = (each * kept).sum(1).mean() / (1 + NEGATIVES)
    torch.testing.assert_close(got, want)
    for mine, textbook in zip(
        torch.autograd.grad(got, (hidden, table)), torch.autograd.grad(want, (hidden, table)), strict=True
    ):
        torch.testing.assert_close(mine, textbook)


def test_large_scores_overflow_nothing() -> None:
    positive, negative = torch.tensor([-1e4]), torch.tensor([[1e4, 2e4]])
    assert binary_cross_entropy(positive, negative).item() == pytest.approx(4e4 / 3)
