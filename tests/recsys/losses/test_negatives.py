import pytest
import torch
from torch import Tensor

from headwise_recsys.losses import Mixed, Uniform
from headwise_recsys.losses.negatives import scores

POSITIONS, WIDTH, ITEMS, NEGATIVES = 23, 5, 11, 7


def counted(drawn: Tensor, items: int) -> Tensor:
    return torch.bincount(drawn.flatten(), minlength=items + 1).double()


def test_uniform_draws_every_item_and_never_padding() -> None:
    torch.manual_seed(3)
    drawn = Uniform(ITEMS, 11_000)(torch.ones(2, dtype=torch.long))
    counts = counted(drawn.items, ITEMS)
    assert counts[0] == 0
    assert (counts[1:] - 1000).abs().max() < 5 * 1000**0.5
    assert drawn.log_expected.exp().unique().tolist() == pytest.approx([1000])


def test_negatives_are_shared_or_each_positions_own() -> None:
    targets = torch.ones(POSITIONS, dtype=torch.long)
    assert Uniform(ITEMS, NEGATIVES)(targets).items.shape == (NEGATIVES,)
    own = Uniform(ITEMS, NEGATIVES, shared=False)(targets).items
    assert own.shape == (POSITIONS, NEGATIVES)
    assert len(own.unique(dim=0)) > 1


def test_mixed_says_how_often_each_item_was_to_be_expected() -> None:
    # Batches that are popular as the catalogue is: the mean of many draws is what was expected.
    popularity = torch.tensor([0.0, 5, 3, 0, 2])
    targets = torch.tensor([1] * 5 + [2] * 3 + [4] * 2)
    sampler, draws = Mixed(popularity, 7, in_batch=0.4), 4000
    torch.manual_seed(3)
    seen, expected = torch.zeros(5).double(), torch.zeros(5)
    for _ in range(draws):
        drawn = sampler(targets)
        seen += counted(drawn.items, 4)
        expected[drawn.items] = drawn.log_expected.exp()
    # 3 of 7 from the batch, 4 of the 4 items: 3 p + 1.
    assert expected[1:].tolist() == pytest.approx([2.5, 1.9, 1, 1.6])
    torch.testing.assert_close(seen / draws, expected.double(), atol=0.1, rtol=0)


def test_the_same_seed_draws_the_same() -> None:
    targets = torch.arange(1, ITEMS + 1)
    for sampler in (Uniform(ITEMS, NEGATIVES), Mixed(torch.ones(ITEMS + 1), NEGATIVES)):
        again = []
        for _ in range(2):
            torch.manual_seed(5)
            again.append(sampler(targets).items)
        assert torch.equal(*again)
        assert not torch.equal(again[0], sampler(targets).items)


def test_a_catalogue_that_nobody_chose_from_is_refused() -> None:
    with pytest.raises(ValueError, match="popularity is 0 for every item"):
        Mixed(torch.zeros(ITEMS + 1), NEGATIVES)


@pytest.mark.parametrize("shared", [True, False])
def test_scores_are_products_but_for_the_target_among_the_negatives(shared: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    table = torch.randn(ITEMS + 1, WIDTH, generator=generator)
    hidden = torch.randn(POSITIONS, WIDTH, generator=generator)
    targets = torch.randint(1, ITEMS + 1, (POSITIONS,), generator=generator)
    shape = (NEGATIVES,) if shared else (POSITIONS, NEGATIVES)
    negatives = torch.randint(1, ITEMS + 1, shape, generator=generator)
    positive, negative = scores(hidden, targets, negatives, lambda items: table[items])
    hits = 0
    for place in range(POSITIONS):
        assert positive[place].item() == pytest.approx(float(hidden[place] @ table[targets[place]]), abs=1e-5)
        own = negatives if shared else negatives[place]
        for item, score in zip(own.tolist(), negative[place].tolist(), strict=True):
            hit = item == targets[place]
            hits += hit
            assert score < -1e37 if hit else score == pytest.approx(float(hidden[place] @ table[item]), abs=1e-5)
    assert hits


def test_half_precision_is_scored_in_float32() -> None:
    table, targets = torch.randn(ITEMS + 1, WIDTH), torch.tensor([3, 5])
    hidden = torch.randn(2, WIDTH).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        positive, negative = scores(hidden, targets, torch.tensor([2, 7]), lambda items: table[items])
    torch.testing.assert_close(positive, (hidden.float() * table[targets]).sum(1))
    torch.testing.assert_close(negative, hidden.float() @ table[[2, 7]].T)


def test_no_position_is_no_loss() -> None:
    with pytest.raises(ValueError, match="no position has a target"):
        scores(torch.zeros(0, WIDTH), torch.zeros(0, dtype=torch.long), torch.tensor([1]), lambda items: items)
