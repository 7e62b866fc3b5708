import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwise.attention import View, causal, chunk, rows, same_segment
from headwise.transformer import rollout

WIDTH = 52
LENGTHS = torch.tensor([17, 1, 11])


def close(got, want):
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_by_hand():
    first = torch.tensor([[[1.0, 0], [0.5, 0.5]], [[1, 0], [0, 1]]])  # two heads; their mean takes 1/4 of token 0
    second = torch.tensor([[[1.0, 0], [1, 0]], [[1, 0], [1, 0]]])
    # block 1 hands on [[1, 0], [1/8, 7/8]], block 2 [[1, 0], [1/2, 1/2]]
    close(rollout([first[None]]), torch.tensor([[[1, 0], [0.125, 0.875]]]))
    close(rollout([first[None], second[None]]), torch.tensor([[[1, 0], [0.5625, 0.4375]]]))


def test_later_blocks_stand_on_the_left():
    pulls, mixes = torch.tensor([[[[1.0, 0], [1, 0]]]]), torch.tensor([[[[0.0, 1], [0, 1]]]])
    assert not torch.allclose(rollout([pulls, mixes]), rollout([mixes, pulls]))
    close(rollout([pulls, mixes]), torch.tensor([[[0.75, 0.25], [0.5, 0.5]]]))


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 7), st.integers(0, 10**6))
def test_shares_sum_to_one_and_stay_in_the_past(blocks, heads, time, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(blocks, 2, heads, time, time, generator=generator, dtype=torch.double)
    past = torch.ones(time, time).tril().bool()
    shares = rollout(list(scores.masked_fill(~past, -torch.inf).softmax(-1)))
    close(shares.sum(-1), torch.ones(2, time, dtype=torch.double))
    assert (shares[:, past] > 0).all()
    assert not shares[:, ~past].any()


@pytest.mark.parametrize("mask", [causal, causal & same_segment, same_segment], ids=repr)
def test_padding_reaches_no_real_token(encoder, mask):
    at = rows(LENGTHS, 17)
    shares = rollout(encoder.weights(torch.randn(3, 17, WIDTH, dtype=torch.double), View(at, mask)))
    close(shares.sum(-1), torch.ones(3, 17, dtype=torch.double))
    for row, length in enumerate(LENGTHS.tolist()):
        assert not shares[row, :length, length:].any()


def test_only_what_a_chain_of_visible_tokens_joins(encoder):
    size, left, blocks = 3, 2, 2
    view = View(rows(torch.tensor([17]), 17), chunk(size, left) & same_segment)
    shares = rollout(encoder.weights(torch.randn(1, 17, WIDTH, dtype=torch.double), view))
    steps = view.visible[0, 0].double().matrix_power(blocks) > 0
    assert torch.equal(shares[0] > 0, steps)
    assert not steps[16, :8].any()  # two chunks with their left context, and no further back


def test_a_token_that_sees_nothing_is_its_own():
    weights = torch.zeros(1, 1, 3, 3)
    weights[0, 0, 0, 0] = 1
    close(rollout([weights] * 5), torch.eye(3)[None])


def test_no_blocks_are_refused():
    with pytest.raises(ValueError, match="rollout of 0 blocks"):
        rollout([])
