import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwise.attention import ALiBi, Attention, Coordinates, IntervalBias, Linear, RelativeBias, View, causal, rows

HEADS, TIME = 3, 7
TIMES = torch.tensor([[0, 1, 4, 4, 67, 3600, 86_400], [5, 5, 6, 11, 12, 13, 1_000_000_000]])


def coordinates():
    return rows(torch.tensor([TIME, TIME]), TIME)._replace(time=TIMES)


def asked(bias, query, key, field="position"):
    """The bias of one pair, for every head."""
    places = [
        Coordinates(*(torch.tensor([[[n if name == field else 0]]]) for name in Coordinates._fields))
        for n in (query, key)
    ]
    return bias(*places).flatten()


def learned(bias):
    with torch.no_grad():
        bias.table.copy_(torch.randn_like(bias.table))
    return bias


BIASES = {
    "alibi": lambda: ALiBi(HEADS),
    "relative": lambda: learned(RelativeBias(HEADS, 3)),
    "interval": lambda: learned(IntervalBias(HEADS)),
    "interval of positions": lambda: learned(IntervalBias(HEADS, of="position", buckets=5)),
}


def test_alibi_by_hand():
    # 4 heads: slopes 1/4, 1/16, 1/64, 1/256
    assert asked(ALiBi(4), 11, 3).tolist() == [-2, -0.5, -0.125, -0.03125]
    assert asked(ALiBi(4), 3, 11).tolist() == asked(ALiBi(4), 11, 3).tolist()


def test_relative_by_hand():
    bias = RelativeBias(1, 2)
    with torch.no_grad():
        bias.table.copy_(
            torch.tensor([[2.0], [3], [5], [7], [11]])
        )  # 2 and more ahead, 1 ahead, here, 1 behind, 2 and more
    assert [asked(bias, 50, key).item() for key in (60, 52, 51, 50, 49, 48, 0)] == [2, 2, 3, 5, 7, 11, 11]


def test_interval_by_hand():
    bias = IntervalBias(1, buckets=6, unit=60.0)
    with torch.no_grad():
        bias.table.copy_(torch.arange(6.0)[:, None])
    # 2 log2(1 + d / 60 s): 0 to 24 s are bucket 0, to 59 s bucket 1, to 109 s bucket 2, to 179 s bucket 3, to 279 s bucket 4
    seconds = [0, 24, 25, 59, 60, 109, 110, 179, 180, 279, 280, 10_000_000]
    assert [asked(bias, 5000 + s, 5000, "time").item() for s in seconds] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert asked(bias, 0, 110, "time").item() == 3


@given(st.integers(0, 4_000_000_000))
def test_an_interval_falls_in_the_bucket_of_its_logarithm(seconds):
    bias = IntervalBias(1, buckets=200)
    with torch.no_grad():
        bias.table.copy_(torch.arange(200.0)[:, None])
    exact = 2 * math.log2(1 + seconds)
    assert asked(bias, seconds, 0, "time").item() in {math.floor(exact - 1e-5), math.floor(exact + 1e-5)}


@pytest.mark.parametrize("name", BIASES)
def test_a_kernel_adds_the_bias_to_its_scores(case, name):
    if not case.biased:
        pytest.skip("has no scores")
    kernel, bias, view = case.kernel(10).double(), BIASES[name]().double(), View(coordinates(), causal)
    query, key = torch.randn(2, 2, HEADS, TIME, 10, dtype=torch.double)
    identity = torch.eye(TIME, dtype=torch.double).expand(2, HEADS, TIME, TIME)
    plain, biased = kernel(query, key, identity, view), kernel(query, key, identity, view, bias)
    expected = plain * bias(*view.pairs).exp()  # softmax(s + b) is softmax(s) exp(b), normalised
    torch.testing.assert_close(biased, expected / expected.sum(-1, keepdim=True))
    assert not torch.allclose(biased, plain)


@pytest.mark.parametrize("name", BIASES)
def test_attention_uses_its_bias_everywhere(case, name, attention):
    if not case.biased:
        pytest.skip("has no scores")
    module, at = attention(case, (HEADS, 1), bias=BIASES[name]()), coordinates()
    tokens = torch.randn(2, TIME, HEADS * 10, dtype=torch.double)
    whole = module(tokens, View(at, causal))
    cache, answers = module.empty_cache(2, TIME), []
    for now in range(TIME):
        here = slice(now, now + 1)
        answer, cache = module.step(tokens[:, here], at.map(lambda c: c[:, here]), causal, cache)  # noqa: B023
        answers.append(answer)
    torch.testing.assert_close(torch.cat(answers, 1), whole)
    module.bias = None
    assert not torch.allclose(module(tokens, View(at, causal)), whole)


def test_a_learned_bias_learns():
    bias = RelativeBias(2, 3)
    module = Attention(10, 2, bias=bias)
    module(torch.randn(1, 5, 10), View(rows(torch.tensor([5]), 5), causal)).square().sum().backward()
    assert (bias.table.grad[3:].abs().sum(1) > 0).all()  # here and behind
    assert bias.table.grad[:3].abs().sum() == 0  # the future, which nobody sees


def test_a_kernel_without_scores_refuses_a_bias_at_once():
    with pytest.raises(ValueError, match="Linear has no scores that a bias could be added to"):
        Attention(10, 2, kernel=Linear(), bias=ALiBi(2))


def test_intervals_are_whole_seconds():
    at = coordinates()._replace(time=TIMES.double())
    with pytest.raises(ValueError, match=r"time holds torch.float64: .* give integers"):
        IntervalBias(HEADS)(*View(at, causal).pairs)


@pytest.mark.parametrize("bias", [ALiBi(HEADS), IntervalBias(HEADS, buckets=29)], ids=["alibi", "interval"])
def test_half_precision_tells_long_distances_and_intervals_apart(bias):
    place = torch.tensor([[0, 1023, 1024, 4095]])
    view = View(Coordinates(place, torch.ones_like(place), place), causal)
    for table in bias.parameters():
        torch.nn.init.normal_(table)
    exact = bias(*view.pairs)
    torch.testing.assert_close(bias.to(torch.bfloat16)(*view.pairs).float(), exact, atol=0, rtol=0.01)
