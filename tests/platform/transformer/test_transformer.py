import math

import pytest
import torch
from torch import nn

from headwise.attention import (
    Cache,
    Coordinates,
    LearnedPositions,
    SinusoidalPositions,
    View,
    causal,
    rows,
    same_segment,
)
from headwise.transformer import (
    Decoder,
    DecoderState,
    Encoder,
    Transformer,
    Writer,
    Written,
    beam_search,
    encoder_decoder,
)

VOCAB, WIDTH, KEYS, TIME = 23, 26, 7, 11
SOURCES, LENGTHS = torch.tensor([3, 7, 1]), torch.tensor([11, 1, 5])
OF, AT = rows(SOURCES, KEYS), rows(LENGTHS, TIME)


@pytest.fixture(params=["sinusoidal", "learned"])
def model(request):
    positions = {"sinusoidal": SinusoidalPositions(WIDTH), "learned": LearnedPositions(TIME, WIDTH)}[request.param]
    return build(positions)


def build(positions=None):
    model = encoder_decoder(VOCAB, width=WIDTH, blocks=2, heads=2, hidden=17, positions=positions)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.double().eval()


def sentences(at):
    return torch.randint(VOCAB, at.position.shape)


def close(answer, expected):
    torch.testing.assert_close(answer, expected, rtol=1e-9, atol=1e-9)


def test_what_is_embedded_and_scored_by_hand():
    model = Transformer(Encoder([], 2), Writer(2, 2, Decoder([], 2), positions=LearnedPositions(3, 2)))
    with torch.no_grad():
        model.writer.embedding.weight.copy_(torch.tensor([[3.0, 0], [0, 5]]))
        model.writer.positions.table.weight.copy_(torch.tensor([[0.0, 0], [0, 90], [0, 0]]))
    target, at = torch.tensor([[0, 0, 1]]), rows(torch.tensor([3]), 3)
    # 3 sqrt(2) and 0 are normed to 1 and -1, which score 3 with token 0 and -5 with token 1
    expected = torch.tensor([[[3.0, -5], [-3, 5], [-3, 5]]])
    torch.testing.assert_close(model(target, at, target, at), expected, rtol=0, atol=1e-4)


def test_it_is_its_parts(model):
    source, target, view = sentences(OF), sentences(AT), View(AT, causal & same_segment)
    table, root = model.writer.embedding.weight, math.sqrt(WIDTH)
    read = model.encoder(root * table[source] + model.writer.positions(OF.position), View(OF, same_segment))
    hidden = model.writer.decoder(
        root * table[target] + model.writer.positions(AT.position), view, read, View(AT, same_segment, OF)
    )
    close(model(source, OF, target, AT), hidden @ table.T)


def test_the_future_cannot_change_the_past(model):
    source, target, other = sentences(OF), sentences(AT), sentences(AT)
    other[:, :5] = target[:, :5]
    answers = [model(source, OF, t, AT) for t in (target, other)]
    close(answers[0][:, :5], answers[1][:, :5])


def test_the_whole_source_can_change_the_answer(model):
    source, target = sentences(OF), sentences(AT)
    for place in range(KEYS):
        other = source.clone()
        other[1, place] = (source[1, place] + 1) % VOCAB
        assert not torch.allclose(model(source, OF, target, AT)[1, 0], model(other, OF, target, AT)[1, 0])


def test_padding_cannot_change_the_answer():
    model, source, target = build(), sentences(OF), sentences(AT)
    longer_of, longer = rows(SOURCES, KEYS + 5), rows(LENGTHS, TIME + 3)
    long_source, long_target = sentences(longer_of), sentences(longer)
    long_source[:, :KEYS][OF.segment > 0] = source[OF.segment > 0]
    long_target[:, :TIME][AT.segment > 0] = target[AT.segment > 0]
    answer = model(long_source, longer_of, long_target, longer)[:, :TIME]
    close(answer[AT.segment > 0], model(source, OF, target, AT)[AT.segment > 0])


def test_batch_mates_cannot_change_the_answer(model):
    source, target = sentences(OF), sentences(AT)
    answer = model(source, OF, target, AT)
    for row, (keys, time) in enumerate(zip(SOURCES.tolist(), LENGTHS.tolist(), strict=True)):
        own, of, at = slice(row, row + 1), rows(torch.tensor([keys]), keys), rows(torch.tensor([time]), time)
        close(model(source[own, :keys], of, target[own, :time], at), answer[own, :time])


def test_packed_pairs_equal_separate_pairs(model):
    def packed(*lengths):
        position = torch.cat([torch.arange(n) for n in lengths])[None]
        segment = torch.cat([torch.full((n,), s) for s, n in enumerate(lengths, 1)])[None]
        return Coordinates(position, segment, torch.zeros_like(position))

    of, at = packed(3, 5), packed(7, 2)
    source, target = sentences(of), sentences(at)
    second = model(source[:, 3:], rows(torch.tensor([5]), 5), target[:, 7:], rows(torch.tensor([2]), 2))
    close(model(source, of, target, at)[:, 7:], second)


def test_step_by_step_equals_all_at_once(model):
    source, target = sentences(OF), sentences(AT)
    written, answers = model.read(source, OF, TIME), []
    for tokens in target.T:
        log_probs, written = model.step(tokens, written)
        answers.append(log_probs)
    real = AT.segment > 0
    close(torch.stack(answers, 1)[real], model(source, OF, target, AT).log_softmax(-1)[real])
    assert written.length.tolist() == [TIME] * 3


def test_cached_generation_equals_reading_everything_anew(model):
    source, end, begin = sentences(OF), 2, torch.ones(3, dtype=torch.long)

    def anew(tokens, state):
        source, sources, target = state
        target = torch.cat([target, tokens[:, None]], 1)
        at = rows(torch.full((len(target),), target.shape[1]), target.shape[1])
        return model(source, rows(sources, KEYS), target, at)[:, -1].log_softmax(-1), (source, sources, target)

    options = {"end": end, "longest": TIME, "beams": 3, "best": 3}
    cached = beam_search(model.step, model.read(source, OF, TIME), begin, **options)
    nothing = torch.empty(3, 0, dtype=torch.long)
    expected = beam_search(anew, (source, SOURCES, nothing), begin, **options)
    assert torch.equal(cached.tokens, expected.tokens)
    torch.testing.assert_close(cached.scores, expected.scores, rtol=1e-6, atol=1e-6)


def test_attention_weights_are_those_of_the_decoder(model):
    weights = model.attention_weights(sentences(OF), OF, sentences(AT), AT)
    assert [tuple(block.attention.shape) for block in weights] == [(3, 2, TIME, TIME)] * 2
    assert [tuple(block.across.shape) for block in weights] == [(3, 2, TIME, KEYS)] * 2
    close(weights[0].across[0].sum(-1), torch.ones(2, TIME, dtype=torch.double))
    assert not weights[1].across[0, :, :, 3:].any()


def test_dropout_is_for_training_only(model):
    batch = sentences(OF), OF, sentences(AT), AT
    assert torch.equal(model(*batch), model(*batch))
    model.train()
    assert not torch.allclose(model(*batch), model(*batch))


def test_the_papers_base_model():
    with torch.device("meta"):
        model = encoder_decoder(37_000)
    block = 4 * (512 * 512 + 512) + (2 * 512 * 2048 + 2048 + 512)  # attention and feed-forward
    more = 4 * (512 * 512 + 512)  # the decoder's attention to the source
    norms = 2 * 512 * (6 * 2 + 6 * 3 + 2)
    assert sum(p.numel() for p in model.parameters()) == 37_000 * 512 + 12 * block + 6 * more + norms
    assert 62e6 < sum(p.numel() for p in model.parameters()) < 66e6  # table 3: 65 million


class Step(nn.Module):
    """A step as a graph has it: what is remembered goes in and comes out as plain tensors."""

    def __init__(self):
        super().__init__()
        self.model = encoder_decoder(VOCAB, width=WIDTH, blocks=1, heads=2, hidden=17)

    def forward(self, tokens, length, *memory):
        own, source = (Cache(*part[:2], Coordinates(*part[2:])) for part in (memory[:5], memory[5:]))
        log_probs, written = self.model.step(tokens, Written(length, [DecoderState(own, source)]))
        return log_probs, *plain(written)


def plain(written):
    (state,) = written.states
    return [written.length, *(tensor for cache in state for tensor in (*cache[:2], *cache.at))]


def test_a_graph_writes_what_torch_writes(through_onnx):
    step = Step().eval()

    @torch.no_grad()
    def start(batch, keys, slots):
        of = rows(torch.arange(batch) % keys + 1, keys)
        return step.model.read(sentences(of), of, slots)

    example = {f"memory{number}": tensor for number, tensor in enumerate(plain(start(5, 3, 4)))}
    example = {"tokens": torch.arange(5), **example}
    heads = {"memory1": "slots", "memory2": "slots", "memory6": "keys", "memory7": "keys"}
    dynamic = dict.fromkeys(example, ("batch",)) | {name: ("batch", None, of) for name, of in heads.items()}
    dynamic |= {f"memory{number}": ("batch", "slots") for number in (3, 4, 5)}
    dynamic |= {f"memory{number}": ("batch", "keys") for number in (8, 9, 10)}
    run = through_onnx(step, example, dynamic)

    def graph(tokens, memory):
        log_probs, *memory = run(tokens, *memory)
        return log_probs, memory

    for batch, keys, longest in [(1, 1, 1), (3, 7, 11)]:
        written, begin = start(batch, keys, longest), torch.ones(batch, dtype=torch.long)
        options = {"end": 2, "longest": longest, "beams": 2}
        expected = beam_search(step.model.step, written, begin, **options)
        got = beam_search(graph, plain(written), begin, **options)
        assert torch.equal(got.tokens, expected.tokens)
        torch.testing.assert_close(got.scores, expected.scores, rtol=1e-4, atol=1e-4)
