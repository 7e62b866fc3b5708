import pytest
import torch
from torch import nn

from headwise.transformer import FeedForward, SwiGLU

WIDTH, HIDDEN = 7, 11


def test_feed_forward_by_hand():
    layer = FeedForward(1, 2, nn.ReLU())
    with torch.no_grad():
        layer.up.weight.copy_(torch.tensor([[2.0], [-3.0]]))
        layer.up.bias.copy_(torch.tensor([1.0, 4.0]))
        layer.down.weight.copy_(torch.tensor([[10.0, 100.0]]))
        layer.down.bias.copy_(torch.tensor([0.5]))
    assert layer(torch.tensor([[3.0], [-1.0]])).tolist() == [[70.5], [700.5]]


def test_swiglu_equals_the_formula():
    layer, tokens = SwiGLU(WIDTH, HIDDEN).double(), torch.randn(3, 5, WIDTH, dtype=torch.double)
    gate, value = (
        nn.functional.linear(tokens, w, b)
        for w, b in zip(layer.up.weight.split(HIDDEN), layer.up.bias.split(HIDDEN), strict=True)
    )
    torch.testing.assert_close(layer(tokens), layer.down(gate * gate.sigmoid() * value))


@pytest.mark.parametrize(
    "layer", [FeedForward(WIDTH, HIDDEN, nn.GELU()), SwiGLU(WIDTH, HIDDEN)], ids=["plain", "SwiGLU"]
)
def test_acts_on_one_token_at_a_time(layer):
    tokens = torch.randn(3, 5, WIDTH)
    torch.testing.assert_close(layer(tokens)[1, 2], layer(tokens[1, 2]))
    assert layer(tokens[0]).shape == (5, WIDTH)


@pytest.mark.parametrize(
    "build", [lambda: FeedForward(WIDTH, HIDDEN, nn.GELU(), 0.5), lambda: SwiGLU(WIDTH, HIDDEN, 0.5)]
)
def test_dropout_is_for_training_only(build):
    layer, tokens = build(), torch.randn(3, 5, WIDTH)
    assert not torch.equal(layer(tokens), layer(tokens))
    layer.eval()
    assert torch.equal(layer(tokens), layer(tokens))
