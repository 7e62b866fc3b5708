import pytest
import torch
from torch.nn import functional as F

from headwise.attention import View, causal, chunk, rows, same_segment
from headwise.transformer import DepthwiseConvolution

WIDTH, KERNEL = 7, 5


@pytest.fixture
def view():
    return View(rows(torch.tensor([13, 3, 11]), 13), causal)


def module(ahead=0):
    return DepthwiseConvolution(WIDTH, KERNEL, ahead=ahead).double()


def tokens_for(view):
    return torch.randn(*view.at.position.shape, WIDTH, dtype=torch.double)


def test_by_hand():
    convolution = DepthwiseConvolution(2, 3)
    with torch.no_grad():
        convolution.enter.weight.copy_(torch.cat([torch.eye(2), torch.zeros(2, 2)]))
        convolution.enter.bias.copy_(torch.tensor([0.0, 0, 100, 100]))  # a gate wide open: the signal is the tokens
        convolution.depthwise.weight.copy_(torch.tensor([[[100.0, 10, 1]], [[0, 0, 2]]]))
        convolution.depthwise.bias.zero_()
    seen = []
    convolution.norm.register_forward_pre_hook(lambda norm, inputs: seen.append(inputs[0]))
    convolution(torch.tensor([[[1.0, 5], [2, 6], [3, 7], [9, 9]]]), View(rows(torch.tensor([3]), 4), causal))
    assert seen[0][0, :3].tolist() == [[1, 10], [12, 12], [123, 14]]  # the oldest comes first; before the first is zero


@pytest.mark.parametrize("ahead", range(KERNEL))
def test_equals_the_formula(view, ahead):
    convolution, tokens = module(ahead), tokens_for(view)
    a, b = convolution.enter(tokens).chunk(2, -1)
    signal = a * b.sigmoid()
    weight, bias = convolution.depthwise.weight, convolution.depthwise.bias
    answer = convolution(tokens, view)
    for row, length in enumerate([13, 3, 11]):
        for time in range(length):
            near = range(time - (KERNEL - 1 - ahead), time + ahead + 1)
            taps = [weight[:, 0, i] * signal[row, t] for i, t in enumerate(near) if 0 <= t < length]
            expected = convolution.leave(F.silu(convolution.norm(sum(taps) + bias)))
            torch.testing.assert_close(answer[row, time], expected)


@pytest.mark.parametrize("ahead", range(KERNEL))
def test_looks_as_far_as_it_says(view, ahead):
    convolution, tokens = module(ahead), tokens_for(view)
    changed = tokens.clone()
    changed[0, 6] += 1.0
    differs = (convolution(tokens, view)[0] != convolution(changed, view)[0]).any(-1)
    assert differs.nonzero().flatten().tolist() == list(range(6 - ahead, 6 + KERNEL - ahead))


@pytest.mark.parametrize("ahead", [0, 2])
def test_padding_cannot_change_the_answer(view, ahead):
    convolution, tokens = module(ahead), tokens_for(view)
    filled = torch.where(view.real[..., None], tokens, torch.tensor(11.0))
    answer, other = convolution(tokens, view), convolution(filled, view)
    torch.testing.assert_close(answer[view.real], other[view.real])


@pytest.mark.parametrize("size", [1, 2, 7, 13])
@pytest.mark.parametrize("kernel", [1, 2, 5])
def test_step_by_step_equals_all_at_once(view, size, kernel):
    convolution, tokens = DepthwiseConvolution(WIDTH, kernel).double(), tokens_for(view)
    past, answers = torch.zeros(3, kernel - 1, WIDTH, dtype=torch.double), []
    for start in range(0, 13, size):
        now = slice(start, start + size)
        part = View(view.at.map(lambda c: c[:, now]), causal)  # noqa: B023
        answer, past = convolution.step(tokens[:, now], part, past)
        answers.append(answer)
        assert past.shape == (3, kernel - 1, WIDTH)
    torch.testing.assert_close(torch.cat(answers, 1), convolution(tokens, view))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 17])
@pytest.mark.parametrize("ahead", [2, 4])
def test_looks_ahead_to_the_end_of_its_chunk(view, size, ahead):
    convolution, tokens = module(ahead), tokens_for(view)
    chunked, answers = View(view.at, chunk(size, left=3)), []
    for now in range(13):  # each answer from what its chunk and those before hold
        end = (now // size + 1) * size
        part = View(view.at.map(lambda c: c[:, :end]), same_segment)  # noqa: B023
        answers.append(convolution(tokens[:, :end], part)[:, now])
    torch.testing.assert_close(convolution(tokens, chunked), torch.stack(answers, 1))


@pytest.mark.parametrize("size", [1, 2, 7, 17])
def test_chunk_by_chunk_equals_all_at_once(view, size):
    convolution, tokens, mask = module(ahead=2), tokens_for(view), chunk(size, left=3) & same_segment
    past, answers = torch.zeros(3, 2, WIDTH, dtype=torch.double), []
    for start in range(0, 13, size):
        now = slice(start, start + size)
        part = View(view.at.map(lambda c: c[:, now]), mask)  # noqa: B023
        answer, past = convolution.step(tokens[:, now], part, past)
        answers.append(answer)
    torch.testing.assert_close(torch.cat(answers, 1), convolution(tokens, View(view.at, mask)))


def test_dropout_is_for_training_only(view):
    convolution = DepthwiseConvolution(WIDTH, KERNEL, dropout=0.5).double()
    tokens = tokens_for(view)
    assert not torch.equal(convolution(tokens, view), convolution(tokens, view))
    convolution.eval()
    assert torch.equal(convolution(tokens, view), convolution(tokens, view))


@pytest.mark.parametrize("ahead", [-1, 5])
def test_says_how_far_it_may_look(ahead):
    with pytest.raises(ValueError) as error:
        DepthwiseConvolution(WIDTH, KERNEL, ahead=ahead)
    assert str(error.value) == f"ahead ({ahead}) must be at least 0 and smaller than kernel (5)"


def test_says_that_it_cannot_look_ahead_step_by_step(view):
    with pytest.raises(ValueError) as error:
        module(ahead=2).step(tokens_for(view), view, torch.zeros(3, 2, WIDTH, dtype=torch.double))
    assert str(error.value) == (
        "a convolution that looks 2 ahead cannot run step by step without chunks; build it with ahead=0, or "
        "use a mask with chunk(...)"
    )
