import pytest
import torch
from torch import nn

from headwise.attention import Attention, View, causal, rows, same_segment
from headwise.transformer import Block, DepthwiseConvolution, FeedForward, Residual

WIDTH = 26


class Fixed(nn.Module):
    """A branch that answers the same whatever it is asked."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, tokens, *context):
        return torch.full_like(tokens, self.answer)


def test_residual_by_hand():
    tokens = torch.tensor([[[3.0, 5.0]]])
    assert Residual(Fixed(7.0), 2)(tokens).tolist() == [[[10.0, 12.0]]]
    assert Residual(Fixed(7.0), 2, scale=0.5)(tokens).tolist() == [[[6.5, 8.5]]]
    assert Residual(Fixed(7.0), 2, gated=True)(tokens).tolist() == [[[6.5, 8.5]]]  # a new gate lets one half in


def test_a_gate_opens_by_the_token_itself():
    residual = Residual(Fixed(8.0), 2, gated=True)
    with torch.no_grad():
        residual.gate.weight.copy_(torch.eye(2))
    gate = torch.tensor([3.0, -5.0]).sigmoid()
    torch.testing.assert_close(residual(torch.tensor([[[3.0, -5.0]]]))[0, 0], torch.tensor([3.0, -5.0]) + 8 * gate)


def test_the_branch_sees_normed_tokens():
    tokens = torch.tensor([[[3.0, 1.0]]])
    torch.testing.assert_close(Residual(nn.Identity(), 2)(tokens), torch.tensor([[[4.0, 0.0]]]), rtol=0, atol=1e-5)


def test_dropout_is_for_training_only():
    residual, tokens = Residual(Fixed(7.0), 11, dropout=0.5), torch.zeros(3, 5, 11)
    assert set(residual(tokens).flatten().tolist()) == {0.0, 14.0}
    assert set(residual.eval()(tokens).flatten().tolist()) == {7.0}


@pytest.mark.parametrize("gated", [False, True])
def test_a_block_is_its_branches_one_after_another(gated):
    convolution, opening = DepthwiseConvolution(WIDTH, 3), FeedForward(WIDTH, 7, nn.SiLU())
    last = FeedForward(WIDTH, 5, nn.SiLU())
    block = Block(WIDTH, Attention(WIDTH, 2), last, convolution=convolution, opening=opening, gated=gated)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    tokens, view = torch.randn(2, 11, WIDTH), View(rows(torch.tensor([11, 7]), 11), causal & same_segment)
    expected = tokens
    for residual, share, context in [
        (block.opening, 0.5, ()),
        (block.attention, 1.0, (view,)),
        (block.convolution, 1.0, (view,)),
        (block.feed_forward, 0.5, ()),
    ]:
        gate = torch.sigmoid(residual.gate(expected)) if gated else 1.0
        expected = expected + share * gate * residual.branch(residual.norm(expected), *context)
    torch.testing.assert_close(block(tokens, view), block.closing(expected))


def test_a_plain_block_is_the_pre_norm_transformer():
    block = Block(WIDTH, Attention(WIDTH, 2), FeedForward(WIDTH, 7, nn.ReLU()))
    tokens, view = torch.randn(2, 11, WIDTH), View(rows(torch.tensor([11, 7]), 11), causal)
    attended = tokens + block.attention.branch(block.attention.norm(tokens), view)
    torch.testing.assert_close(
        block(tokens, view), attended + block.feed_forward.branch(block.feed_forward.norm(attended))
    )


def test_weights_are_those_that_forward_mixes_with():
    opening = FeedForward(WIDTH, 7, nn.SiLU())
    block = Block(WIDTH, Attention(WIDTH, 2), FeedForward(WIDTH, 5, nn.SiLU()), opening=opening)
    tokens, view = torch.randn(2, 11, WIDTH), View(rows(torch.tensor([11, 7]), 11), causal)
    opened = block.opening(tokens)
    expected = block.attention.branch.weights(block.attention.norm(opened), view)
    torch.testing.assert_close(block.weights(tokens, view), expected)


def test_a_state_is_made_for_its_block():
    convolution = DepthwiseConvolution(WIDTH, 5)
    block = Block(WIDTH, Attention(WIDTH, 2), FeedForward(WIDTH, 7, nn.SiLU()), convolution=convolution)
    state = block.to("meta", torch.bfloat16).empty_state(3, 11)
    assert state.attention.key.shape == (3, 2, 11, 13)
    assert state.convolution.shape == (3, 4, WIDTH)
    assert (state.convolution.dtype, state.convolution.device.type) == (torch.bfloat16, "meta")
    assert Block(WIDTH, Attention(WIDTH, 2), FeedForward(WIDTH, 7, nn.SiLU())).empty_state(3, 11).convolution.shape == (
        3,
        0,
        0,
    )
