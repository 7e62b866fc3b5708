import pytest
import torch

from headwise_recsys.model import Cosine, Dot, Head, Transition

ITEMS, WIDTH, RANK = 13, 7, 5


def test_dot_is_the_plain_product() -> None:
    hidden, embedded, item = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0]), torch.tensor(1)
    head = Dot()
    assert head.expected(hidden, item) @ head.vectors(embedded, item) == 13


def test_cosine_by_hand() -> None:
    head, item = Cosine(temperature=0.1), torch.tensor(1)
    hidden, embedded = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 7.0])
    assert (head.expected(hidden, item) @ head.vectors(embedded, item)).item() == pytest.approx(0.8 / 0.1)
    assert not head.vectors(torch.zeros(2), torch.tensor(0)).any()  # padding has no direction


def test_cosine_knows_no_lengths_and_learns_its_temperature() -> None:
    generator = torch.Generator().manual_seed(3)
    hidden, embedded = torch.randn(11, WIDTH, generator=generator), torch.randn(ITEMS, WIDTH, generator=generator)
    head, items = Cosine(), torch.arange(ITEMS)
    scores = head.expected(hidden, items[:11]) @ head.vectors(embedded, items).T
    assert scores.abs().max() <= 1 / 0.05
    longer = head.expected(2 * hidden, items[:11]) @ head.vectors(3 * embedded, items).T
    torch.testing.assert_close(longer, scores)
    scores.sum().backward()
    assert head.log_scale.grad is not None
    assert head.log_scale.grad != 0


def test_transition_by_hand() -> None:
    head = Transition(Dot(), ITEMS, 2)
    with torch.no_grad():
        head.leaving.weight[3] = torch.tensor([2.0, -1.0])
        head.arriving.weight[11] = torch.tensor([5.0, 3.0])
    expected = head.expected(torch.tensor([1.0, 2.0]), torch.tensor(3))
    assert (expected @ head.vectors(torch.tensor([3.0, 5.0]), torch.tensor(11))).item() == 13 + 7


@pytest.mark.parametrize("inner", [Dot(), Cosine()])
def test_a_transition_starts_as_the_other_head(inner: Head) -> None:
    head = Transition(inner, ITEMS, RANK, dropout=0.5)
    hidden, embedded, items = torch.randn(3, WIDTH), torch.randn(ITEMS + 1, WIDTH), torch.tensor([2, 11, 5])
    scores = head.expected(hidden, items) @ head.vectors(embedded, None).T
    torch.testing.assert_close(scores, inner.expected(hidden, items) @ inner.vectors(embedded, None).T)
    scores.square().sum().backward()
    assert head.arriving.weight.grad is not None
    assert head.arriving.weight.grad.any()  # and leaves it at once


def test_what_leaves_is_dropped_in_training_alone() -> None:
    head = Transition(Dot(), ITEMS, 997, dropout=0.25)
    hidden, item = torch.zeros(WIDTH), torch.tensor(3)
    leaving = head.expected(hidden, item)[WIDTH:]
    assert 150 < int((leaving == 0).sum()) < 350
    torch.testing.assert_close(head.eval().expected(hidden, item)[WIDTH:], head.leaving.weight[3])


def test_a_transition_is_as_long_as_any_row_at_the_start() -> None:
    head = Transition(Dot(), 1009, RANK)
    assert head.leaving.weight.norm(dim=1).mean().item() == pytest.approx(1, abs=0.1)
