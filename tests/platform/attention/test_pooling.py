import math

import torch

from headwise.attention import Pooling


def test_by_hand():
    pooling = Pooling(2)
    with torch.no_grad():
        pooling.inner.weight.copy_(torch.eye(2))
        pooling.inner.bias.zero_()
        pooling.context.copy_(torch.tensor([math.log(3) / math.tanh(1), 0.0]))  # scores log 3 and 0: shares 3/4 and 1/4
    tokens = torch.tensor([[[1.0, 8.0], [0.0, 4.0], [9.0, 9.0]]])
    answer = pooling(tokens, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(answer, torch.tensor([[0.75, 7.0]]))


def test_padding_and_batch_mates_change_nothing():
    pooling, tokens = Pooling(5, 3), torch.randn(2, 11, 5)
    real = torch.arange(11) < torch.tensor([[11], [7]])
    answer = pooling(tokens, real)
    torch.testing.assert_close(answer[1:], pooling(tokens[1:, :7], real[1:, :7]))
    torch.testing.assert_close(pooling.weights(tokens, real).sum(-1), torch.ones(2))


def test_nothing_pools_to_zeros_with_finite_gradients():
    pooling, tokens = Pooling(5), torch.randn(2, 3, 5, requires_grad=True)
    answer = pooling(tokens, torch.zeros(2, 3, dtype=torch.bool))
    assert answer.abs().max() == 0
    answer.sum().backward()
    assert tokens.grad.isfinite().all()


def test_takes_any_number_of_leading_dimensions():
    pooling, words = Pooling(5), torch.randn(2, 3, 7, 5)  # documents, sentences, words
    real = torch.rand(2, 3, 7) < 0.7
    torch.testing.assert_close(pooling(words, real)[1, 2], pooling(words[1, 2], real[1, 2]))
