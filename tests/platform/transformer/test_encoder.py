import pytest
import torch

from headwise.attention import Coordinates, View, causal, chunk, rows, same_segment
from headwise.transformer import Encoder

WIDTH = 52
MASKS = [causal & same_segment, chunk(3, left=5) & same_segment]


def tokens_at(at):
    return torch.randn(*at.position.shape, WIDTH, dtype=torch.double)


def close(answer, expected):
    torch.testing.assert_close(answer, expected, rtol=1e-9, atol=1e-9)


def stepwise(encoder, tokens, at, mask, size, slots):
    states, answers = encoder.empty_states(len(tokens), slots), []
    for start in range(0, tokens.shape[1], size):
        now = slice(start, start + size)
        answer, states = encoder.step(tokens[:, now], at.map(lambda c: c[:, now]), mask, states)  # noqa: B023
        answers.append(answer)
    return torch.cat(answers, 1)


def test_by_hand():
    tokens = torch.tensor([[[3.0, 1], [5, 9]]])  # no blocks: what is left is the norm
    answer = Encoder([], 2)(tokens, View(rows(torch.tensor([2]), 2), causal))
    torch.testing.assert_close(answer, torch.tensor([[[1.0, -1], [-1, 1]]]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("mask", [causal, *MASKS], ids=repr)
def test_the_future_cannot_change_the_past(encoder, at, mask):
    tokens, now = tokens_at(at), 9  # the start of a chunk
    changed = tokens.clone()
    changed[:, now:] = tokens_at(at)[:, now:]
    answer, other = encoder(tokens, View(at, mask)), encoder(changed, View(at, mask))
    close(answer[:, :now], other[:, :now])
    assert not torch.allclose(answer[:, now:], other[:, now:])


@pytest.mark.parametrize("mask", [causal, *MASKS, same_segment], ids=repr)
def test_padding_cannot_change_the_answer(encoder, at, mask):
    tokens, real, longer = tokens_at(at), at.segment > 0, rows(torch.tensor([17, 1, 11]), 23)
    filled = 11 * tokens_at(longer)
    filled[:, :17][real] = tokens[real]
    close(encoder(filled, View(longer, mask))[:, :17][real], encoder(tokens, View(at, mask))[real])


@pytest.mark.parametrize("mask", [causal, *MASKS, same_segment], ids=repr)
def test_batch_mates_cannot_change_the_answer(encoder, at, mask):
    tokens = tokens_at(at)
    answer = encoder(tokens, View(at, mask))
    for row, length in enumerate([17, 1, 11]):
        alone = encoder(tokens[row : row + 1, :length], View(rows(torch.tensor([length]), length), mask))
        close(answer[row : row + 1, :length], alone)


@pytest.mark.parametrize("mask", [*MASKS, same_segment], ids=repr)
def test_packed_rows_equal_separate_rows(packable, mask):
    position = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, 0, 0]])
    segment = torch.tensor([[1] * 5 + [2] * 7 + [3] + [0]])
    at = Coordinates(position, segment, torch.zeros_like(position))
    tokens = tokens_at(at)
    answer = packable(tokens, View(at, mask))
    for start, length in [(0, 5), (5, 7), (12, 1)]:
        own = slice(start, start + length)
        close(answer[:, own], packable(tokens[:, own], View(rows(torch.tensor([length]), length), mask)))


@pytest.mark.parametrize(("mask", "sizes", "slots"), [(MASKS[0], (1, 3, 17), 17), (MASKS[1], (3, 6), 5)], ids=repr)
def test_step_by_step_equals_all_at_once(encoder, at, mask, sizes, slots):
    tokens, real = tokens_at(at), at.segment > 0
    expected = encoder(tokens, View(at, mask))[real]
    for size in sizes:
        close(stepwise(encoder, tokens, at, mask, size, slots)[real], expected)


def test_the_past_of_a_step_matters(encoder, at):
    tokens, mask = tokens_at(at), MASKS[0]
    states = encoder.empty_states(3, 17)
    _, after = encoder.step(tokens[:, :7], at.map(lambda c: c[:, :7]), mask, states)
    then = at.map(lambda c: c[:, 7:11])
    remembered, forgotten = (encoder.step(tokens[:, 7:11], then, mask, s)[0] for s in (after, states))
    assert not torch.allclose(remembered[0], forgotten[0])


@pytest.mark.parametrize("mask", MASKS, ids=repr)
def test_padding_has_no_gradient_and_tokens_a_finite_one(encoder, mask):
    at = rows(torch.tensor([7, 2, 0]), 7)
    tokens = tokens_at(at).requires_grad_()
    real = at.segment > 0
    encoder(tokens, View(at, mask))[real].square().sum().backward()
    assert tokens.grad.isfinite().all()
    assert tokens.grad[~real].abs().max() == 0
    assert (tokens.grad[real].abs().amax(-1) > 0).all()


def test_weights_are_those_of_every_block(encoder, at):
    tokens, view = tokens_at(at), View(at, causal)
    weights = encoder.weights(tokens, view)
    assert [tuple(w.shape) for w in weights] == [(3, 2, 17, 17)] * 2
    for attended in weights:
        close(attended.sum(-1), torch.ones(3, 2, 17, dtype=torch.double))
        assert attended.triu(1).abs().max() == 0
    first, second = encoder.blocks
    close(weights[0], first.weights(tokens, view))
    close(weights[1], second.weights(first(tokens, view), view))


def test_wants_a_state_for_every_block(encoder, at):
    with pytest.raises(ValueError, match="shorter"):
        encoder.step(tokens_at(at), at, causal, encoder.empty_states(3, 5)[:1])


def test_the_last_depth_is_the_answer(encoder, at):
    tokens, view = tokens_at(at), View(at, same_segment)
    depths = encoder.depths(tokens, view)
    assert len(depths) == len(encoder.blocks)
    close(depths[-1], encoder(tokens, view))
    close(depths[0], encoder.norm(encoder.blocks[0](tokens, view)))
