import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise.attention import LearnedPositions, Rotary, SinusoidalPositions

HEAD_WIDTH = 26
PLACES = st.integers(0, 499)


def at(*positions):
    return torch.tensor([positions])


def rotated(rotary, vector, position):
    return rotary(vector.view(1, 1, 1, -1), at(position)).flatten()


def test_rotary_by_hand():
    turned = Rotary(2)(torch.tensor([[[[3.0, 4.0]]]]), at(1))  # one pair, one radian a position
    expected = torch.tensor([3 * math.cos(1) - 4 * math.sin(1), 3 * math.sin(1) + 4 * math.cos(1)])
    torch.testing.assert_close(turned.flatten(), expected)


def test_rotary_pairs_the_halves_and_slows_down_along_them():
    turned = Rotary(4, base=100.0)(torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]]), at(3)).flatten()  # radians: 3, and 3 / 10
    torch.testing.assert_close(turned, torch.tensor([math.cos(3), math.cos(0.3), math.sin(3), math.sin(0.3)]))


@given(PLACES, PLACES, PLACES, st.integers(0, 97))
@settings(max_examples=40)
def test_rotary_depends_on_the_distance_alone(query_at, key_at, shift, seed):
    rotary = Rotary(HEAD_WIDTH).double()
    query, key = torch.randn(2, HEAD_WIDTH, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
    here = rotated(rotary, query, query_at) @ rotated(rotary, key, key_at)
    there = rotated(rotary, query, query_at + shift) @ rotated(rotary, key, key_at + shift)
    torch.testing.assert_close(here, there, rtol=0, atol=1e-10)


def test_rotary_knows_the_distance_and_its_sign():
    rotary = Rotary(HEAD_WIDTH).double()
    query, key = torch.randn(2, HEAD_WIDTH, dtype=torch.double)
    products = [rotated(rotary, query, 11) @ rotated(rotary, key, 11 + distance) for distance in (-2, -1, 0, 1, 2)]
    assert len({round(product.item(), 6) for product in products}) == 5
    torch.testing.assert_close(products[2], query @ key)


def test_rotary_goes_by_the_position_and_not_by_the_place_in_the_row():
    rotary, heads = Rotary(HEAD_WIDTH), torch.randn(1, 3, 7, HEAD_WIDTH)
    whole = rotary(heads, torch.arange(7)[None])
    torch.testing.assert_close(rotary(heads[:, :, 5:], at(5, 6)), whole[:, :, 5:])
    assert not torch.allclose(rotary(heads[:, :, 5:], at(0, 1)), whole[:, :, 5:])


def test_rotary_keeps_lengths_and_rows_apart():
    rotary, heads = Rotary(HEAD_WIDTH), torch.randn(3, 2, 7, HEAD_WIDTH)
    position = torch.randint(0, 101, (3, 7))
    turned = rotary(heads, position)
    torch.testing.assert_close(turned.norm(dim=-1), heads.norm(dim=-1))
    torch.testing.assert_close(turned[1:2], rotary(heads[1:2], position[1:2]))


def test_sinusoids_by_hand():
    vector = SinusoidalPositions(4, base=100.0)(at(0, 3))
    expected = [[0.0, 0.0, 1.0, 1.0], [math.sin(3), math.sin(0.3), math.cos(3), math.cos(0.3)]]
    torch.testing.assert_close(vector, torch.tensor([expected]))


def test_sinusoids_have_no_last_position():
    vectors = SinusoidalPositions(HEAD_WIDTH)(at(7, 100_003))
    assert vectors.shape == (1, 2, HEAD_WIDTH)
    assert vectors.abs().max() <= 1


def test_learned_positions_are_looked_up():
    learned = LearnedPositions(11, 5)
    position = torch.tensor([[0, 1, 10], [3, 3, 0]])
    vectors = learned(position)
    assert vectors.shape == (2, 3, 5)
    assert torch.equal(vectors[1, 0], learned.table.weight[3])
    assert torch.equal(vectors[0, 2], learned.table.weight[10])
    with pytest.raises(IndexError):
        learned(at(11))


@pytest.mark.parametrize("positions", [Rotary, SinusoidalPositions])
def test_says_that_an_odd_width_cannot_be_paired(positions):
    with pytest.raises(ValueError) as error:
        positions(13)
    assert str(error.value) == "width (13) must be even: its dimensions come in pairs"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_tells_large_positions_apart(dtype):
    ones = torch.ones(1, 1, 2, HEAD_WIDTH)
    turned = Rotary(HEAD_WIDTH).to(dtype)(ones.to(dtype), at(4096, 4097))
    assert turned.dtype == dtype
    torch.testing.assert_close(turned.float(), Rotary(HEAD_WIDTH)(ones, at(4096, 4097)), atol=0.02, rtol=0)
    places = SinusoidalPositions(HEAD_WIDTH)
    exact = places(at(4096, 4097))
    assert torch.equal(places.to(dtype)(at(4096, 4097)), exact)
