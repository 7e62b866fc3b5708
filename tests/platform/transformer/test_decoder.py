import pytest
import torch
from torch import nn

from headwise.attention import (
    Additive,
    Attention,
    Cache,
    Coordinates,
    Linear,
    Rotary,
    Softmax,
    View,
    causal,
    chunk,
    rows,
    same_segment,
)
from headwise.transformer import Decoder, DecoderBlock, DecoderState, FeedForward

WIDTH, HEADS = 26, 2  # head width 13: no rotation, so that it may be odd
TIME, KEYS = 11, 7
LENGTHS, SOURCES = torch.tensor([11, 1, 5]), torch.tensor([3, 7, 1])
AHEAD = [causal, causal & same_segment]

KERNELS = {
    "softmax": (Softmax, Softmax),
    "additive across": (Softmax, lambda: Additive(WIDTH // HEADS)),
    "linear": (lambda: Linear(chunk=3), lambda: Linear(chunk=3)),
}  # of the tokens among themselves, and to the source


def build(kind, blocks=2):
    own, across = KERNELS[kind]

    def block():
        return DecoderBlock(
            WIDTH,
            Attention(WIDTH, HEADS, kernel=own()),
            Attention(WIDTH, HEADS, kv_heads=1, kernel=across()),
            FeedForward(WIDTH, 17, nn.GELU()),
        )

    decoder = Decoder([block() for _ in range(blocks)], WIDTH)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.3)  # nothing starts at 0 or 1, so nothing is hidden
    return decoder


@pytest.fixture(params=KERNELS)
def decoder(request):
    return build(request.param).double()


@pytest.fixture
def at():
    return rows(LENGTHS, TIME)


@pytest.fixture
def of():
    return rows(SOURCES, KEYS)


def tokens_at(at):
    return torch.randn(*at.position.shape, WIDTH, dtype=torch.double)


def close(answer, expected):
    torch.testing.assert_close(answer, expected, rtol=1e-9, atol=1e-9)


def whole(decoder, tokens, at, mask, source, of):
    return decoder(tokens, View(at, mask), source, View(at, same_segment, of))


def stepwise(decoder, tokens, at, mask, size, states):
    answers = []
    for start in range(0, tokens.shape[1], size):
        now = slice(start, start + size)
        answer, states = decoder.step(tokens[:, now], at.map(lambda c: c[:, now]), mask, states)  # noqa: B023
        answers.append(answer)
    return torch.cat(answers, 1)


def test_a_block_is_its_branches_one_after_another(at, of):
    block = build("additive across", blocks=1).blocks[0].double()
    tokens, source = tokens_at(at), tokens_at(of)
    view, across = View(at, causal), View(at, same_segment, of)
    own, to_source = block.attention.branch, block.across.branch.attention
    expected = tokens + own(block.attention.norm(tokens), view)
    expected = expected + to_source(block.across.norm(expected), across, source)
    expected = expected + block.feed_forward.branch(block.feed_forward.norm(expected))
    close(block(tokens, view, source, across), expected)


def test_without_blocks_the_norm_is_left():
    tokens, at = torch.tensor([[[3.0, 1], [5, 9]]]), rows(torch.tensor([2]), 2)
    answer = whole(Decoder([], 2), tokens, at, causal, tokens, at)
    torch.testing.assert_close(answer, torch.tensor([[[1.0, -1], [-1, 1]]]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("mask", AHEAD, ids=repr)
def test_the_future_cannot_change_the_past(decoder, at, of, mask):
    tokens, source, now = tokens_at(at), tokens_at(of), 5
    changed = tokens.clone()
    changed[:, now:] = tokens_at(at)[:, now:]
    answer, other = (whole(decoder, t, at, mask, source, of) for t in (tokens, changed))
    close(answer[:, :now], other[:, :now])
    assert not torch.allclose(answer[0, now:], other[0, now:])


def test_a_set_has_no_order(decoder, of):
    at, order = rows(torch.full((3,), TIME), TIME), torch.randperm(TIME)
    tokens, source = tokens_at(at), tokens_at(of)
    answer = whole(decoder, tokens, at, same_segment, source, of)
    close(whole(decoder, tokens[:, order], at, same_segment, source, of), answer[:, order])


@pytest.mark.parametrize("mask", [*AHEAD, same_segment], ids=repr)
def test_padding_cannot_change_the_answer(decoder, at, of, mask):
    tokens, source = tokens_at(at), tokens_at(of)
    longer, longer_of = rows(LENGTHS, TIME + 3), rows(SOURCES, KEYS + 5)
    filled, filled_source = 11 * tokens_at(longer), 13 * tokens_at(longer_of)
    filled[:, :TIME][at.segment > 0] = tokens[at.segment > 0]
    filled_source[:, :KEYS][of.segment > 0] = source[of.segment > 0]
    answer = whole(decoder, filled, longer, mask, filled_source, longer_of)[:, :TIME]
    close(answer[at.segment > 0], whole(decoder, tokens, at, mask, source, of)[at.segment > 0])


@pytest.mark.parametrize("mask", [*AHEAD, same_segment], ids=repr)
def test_batch_mates_cannot_change_the_answer(decoder, at, of, mask):
    tokens, source = tokens_at(at), tokens_at(of)
    answer = whole(decoder, tokens, at, mask, source, of)
    for row, (time, keys) in enumerate(zip(LENGTHS.tolist(), SOURCES.tolist(), strict=True)):
        own, seen = slice(row, row + 1), rows(torch.tensor([keys]), keys)
        alone = whole(decoder, tokens[own, :time], rows(torch.tensor([time]), time), mask, source[own, :keys], seen)
        close(answer[own, :time], alone)


def test_packed_pairs_equal_separate_pairs(decoder):
    def packed(*lengths):
        position = torch.cat([torch.arange(n) for n in lengths])[None]
        segment = torch.cat([torch.full((n,), s) for s, n in enumerate(lengths, 1)])[None]
        return Coordinates(position, segment, torch.zeros_like(position))

    at, of, mask = packed(5, 2), packed(3, 7), causal & same_segment
    tokens, source = tokens_at(at), tokens_at(of)
    answer = whole(decoder, tokens, at, mask, source, of)
    for own, seen in [(slice(0, 5), slice(0, 3)), (slice(5, 7), slice(3, 10))]:
        here, there = (rows(torch.tensor([s.stop - s.start]), s.stop - s.start) for s in (own, seen))
        close(answer[:, own], whole(decoder, tokens[:, own], here, mask, source[:, seen], there))


@pytest.mark.parametrize("size", [1, 3, TIME])
@pytest.mark.parametrize("mask", AHEAD, ids=repr)
def test_step_by_step_equals_all_at_once(decoder, at, of, mask, size):
    tokens, source, real = tokens_at(at), tokens_at(of), at.segment > 0
    answer = stepwise(decoder, tokens, at, mask, size, decoder.remember(source, of, TIME))
    close(answer[real], whole(decoder, tokens, at, mask, source, of)[real])


def test_few_slots_suffice_for_a_mask_of_short_reach(at, of):
    decoder, mask = build("softmax").double(), chunk(3, left=2)
    tokens, source, real = tokens_at(at), tokens_at(of), at.segment > 0
    answer = stepwise(decoder, tokens, at, mask, 3, decoder.remember(source, of, 2))
    close(answer[real], whole(decoder, tokens, at, mask & same_segment, source, of)[real])


def test_rotary_attention_to_the_source_knows_both_places(of):
    attention = [Attention(WIDTH, 1, rotary=Rotary(WIDTH)) for _ in range(2)]
    decoder = Decoder([DecoderBlock(WIDTH, *attention, FeedForward(WIDTH, 17, nn.GELU()))], WIDTH).double()
    at = rows(LENGTHS, TIME)
    tokens, source, real = tokens_at(at), tokens_at(of), at.segment > 0
    answer = stepwise(decoder, tokens, at, causal, 1, decoder.remember(source, of, TIME))
    close(answer[real], whole(decoder, tokens, at, causal, source, of)[real])
    order = torch.tensor([2, 0, 1, 3, 4, 5, 6])
    assert not torch.allclose(whole(decoder, tokens, at, causal, source[:, order], of)[0], answer[0])


@pytest.mark.parametrize("of_length", [0, 3])
def test_padding_has_no_gradient_and_tokens_a_finite_one(decoder, of_length):
    at, of = rows(torch.tensor([7, 2]), 7), rows(torch.tensor([5, of_length]), 5)
    tokens, source = tokens_at(at).requires_grad_(), tokens_at(of).requires_grad_()
    whole(decoder, tokens, at, causal & same_segment, source, of)[at.segment > 0].square().sum().backward()
    for leaf, real in [(tokens, at.segment > 0), (source, of.segment > 0)]:
        assert leaf.grad.isfinite().all()
        assert leaf.grad[~real].abs().sum() == 0
        assert (leaf.grad[real].abs().amax(-1) > 0).all()


def test_weights_are_those_of_every_block(decoder, at, of):
    tokens, source, view, across = tokens_at(at), tokens_at(of), View(at, causal), View(at, same_segment, of)
    weights = decoder.weights(tokens, view, source, across)
    for own, seen in weights:
        assert own.shape == (3, HEADS, TIME, TIME)
        assert seen.shape == (3, HEADS, TIME, KEYS)
        assert not own.triu(1).any()
        assert not seen.masked_select(~across.visible).any()
        for shares in (own[0], seen[0]):
            close(shares.sum(-1), torch.ones(HEADS, TIME, dtype=torch.double))
    second = decoder.blocks[1].weights(decoder.blocks[0](tokens, view, source, across), view, source, across)
    close(weights[1].attention, second.attention)
    close(weights[1].across, second.across)


def test_wants_a_state_for_every_block(decoder, at, of):
    with pytest.raises(ValueError, match="shorter"):
        decoder.step(tokens_at(at), at, causal, decoder.remember(tokens_at(of), of, 5)[:1])


def test_says_when_built_what_it_cannot_follow():
    for kernels in ((Linear(), Softmax()), (Softmax(), Linear())):
        own, across = (Attention(WIDTH, HEADS, kernel=kernel) for kernel in kernels)
        decoder = Decoder([DecoderBlock(WIDTH, own, across, FeedForward(WIDTH, 17, nn.GELU()))], WIDTH)
        decoder.check(causal & same_segment)
        with pytest.raises(ValueError, match="Linear cannot follow the mask chunk"):
            decoder.check(chunk(3, left=2), chunk(3, left=2))


class Graph(nn.Module):
    """All at once, and a step with the source's keys and values as plain tensors."""

    def __init__(self):
        super().__init__()
        self.decoder = build("additive across", blocks=1)

    def forward(self, tokens, lengths, source, sources, key, value, now, *past):
        at, of = rows(lengths, tokens.shape[1]), rows(sources, source.shape[1])
        everything = self.decoder(tokens, View(at, causal), source, View(at, same_segment, of))
        own = Cache(past[0], past[1], Coordinates(*past[2:]))
        here = rows(torch.ones_like(lengths), 1, start=lengths)
        answer, after = self.decoder.step(now, here, causal, [DecoderState(own, Cache(key, value, of))])
        return everything, answer, after[0].attention.key, after[0].attention.value


def test_onnx_equals_torch(through_onnx):
    graph = Graph().eval()

    @torch.no_grad()
    def inputs(batch, time, keys, slots):
        lengths, sources = torch.arange(batch) % time + 1, torch.arange(batch) % keys + 1
        tokens, source = torch.randn(batch, time, WIDTH), torch.randn(batch, keys, WIDTH)
        (state,) = graph.decoder.remember(source, rows(sources, keys), slots)
        _, (state,) = graph.decoder.step(tokens, rows(lengths, time), causal, [state])
        own = {f"past{number}": t.contiguous() for number, t in enumerate([*state.attention[:2], *state.attention.at])}
        return {
            "tokens": tokens, "lengths": lengths, "source": source, "sources": sources,
            "key": state.source.key, "value": state.source.value, "now": torch.randn(batch, 1, WIDTH), **own,
        }  # fmt: skip

    names = {"lengths": ("batch",), "sources": ("batch",), "now": ("batch",), "tokens": ("batch", "time")}
    names |= {"source": ("batch", "keys"), "key": ("batch", None, "keys"), "value": ("batch", None, "keys")}
    names |= {"past0": ("batch", None, "slots"), "past1": ("batch", None, "slots")}
    names |= {f"past{number}": ("batch", "slots") for number in (2, 3, 4)}
    example = inputs(5, 4, 3, 6)
    run = through_onnx(graph, example, {name: names[name] for name in example})
    for sizes in [(1, 1, 1, 1), (2, 11, 3, 17), (7, 5, 13, 5)]:
        arrays = inputs(*sizes).values()
        for got, wanted in zip(run(*arrays), graph(*arrays), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
