"""ONNX Runtime equals torch, also at sizes that the export has not seen. One graph asks all masks: an export takes seconds."""

import torch
from torch import nn

from headwise.attention import (
    Additive,
    ALiBi,
    Attention,
    Cache,
    Coordinates,
    IntervalBias,
    LearnedPositions,
    RelativeBias,
    Rotary,
    SinusoidalPositions,
    Softmax,
    Sums,
    View,
    Window,
    causal,
    chunk,
    rows,
    same_segment,
    window,
)

HEAD_WIDTH = 26
SIZES = [(1, 1), (1, 2), (2, 3), (3, 11), (7, 5)]  # batch, time; of chunks of 3: less, one, several and a rest


def attention(case, heads, kv_heads):
    kernel, rotary = case.kernel(HEAD_WIDTH), Rotary(HEAD_WIDTH)
    return Attention(heads * HEAD_WIDTH, heads, kv_heads=kv_heads, kernel=kernel, rotary=rotary)


class Offline(nn.Module):
    """Grouped-query attention through the masks, then multi-head attention through the last."""

    def __init__(self, case, masks):
        super().__init__()
        self.grouped, self.many, self.masks = attention(case, 6, 2), attention(case, 3, 3), masks

    def forward(self, tokens, lengths):
        at = rows(lengths, tokens.shape[1])
        grouped = [self.grouped(tokens, View(at, mask)) for mask in self.masks]
        return [*grouped, self.many(tokens.chunk(2, -1)[0], View(at, self.masks[-1]))]


class Step(nn.Module):
    """The cached step: what it remembers goes in and comes out as plain tensors."""

    def __init__(self, case, mask):
        super().__init__()
        self.attention, self.mask = attention(case, 6, 2), mask

    def forward(self, tokens, lengths, start, *memory):
        at = rows(lengths, tokens.shape[1], start)
        cache = Sums(*memory) if len(memory) == 2 else Cache(*memory[:2], Coordinates(*memory[2:]))
        answer, cache = self.attention.step(tokens, at, self.mask, cache)
        return answer, *tensors(cache)


def tensors(cache):
    return [*cache] if isinstance(cache, Sums) else [cache.key, cache.value, *cache.at]


def example(batch, time):
    lengths = torch.tensor([time, max(time - 2, 1), 0, 1, time, time, 0][:batch])
    return torch.randn(batch, time, 156), lengths


def test_all_at_once(case, through_onnx):
    # Softmax sees every mask; the others one without the segment rule and the strictest, since each costs a second.
    masks = case.rules if case.adds is None else [case.rules[0], case.strictest]
    module = Offline(case, masks)
    dynamic = {"tokens": ("batch", "time"), "lengths": ("batch",)}
    run = through_onnx(module, dict(zip(dynamic, example(5, 7), strict=True)), dynamic)
    for batch, time in SIZES:
        inputs = example(batch, time)
        answers, expected = run(*inputs), module(*inputs)
        for mask, got, wanted in zip([*masks, "multi-head"], answers, expected, strict=True):
            message = f"{mask} at {batch} x {time}: {{}}".format
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5, msg=message)


def test_step_by_step(case, through_onnx):
    streams = "chunk" in case.masks  # with a cache that is as short as the mask allows
    slots, mask = (5, chunk(3, left=5)) if streams else (13, causal)
    module = Step(case, mask)
    memory = tensors(module.attention.empty_cache(7, slots))
    inputs = {"tokens": torch.randn(7, 4, 156), "lengths": torch.full((7,), 4), "start": torch.arange(7)}
    inputs |= {f"memory{number}": tensor for number, tensor in enumerate(memory)}
    run = through_onnx(module, inputs, {name: ("batch", "time") if name == "tokens" else ("batch",) for name in inputs})

    for lengths in [(11,), (13, 8, 1)]:
        batch, time = len(lengths), max(lengths)
        tokens, at = torch.randn(batch, time, 156), rows(torch.tensor(lengths), time)
        state, answers = tensors(module.attention.empty_cache(batch, slots)), []
        for begin in range(0, time, 3):
            now = tokens[:, begin : begin + 3]
            left = (torch.tensor(lengths) - begin).clamp(0, now.shape[1])
            answer, *state = run(now, left, torch.full((batch,), begin), *state)
            answers.append(answer)
        real = at.segment > 0
        expected = module.attention(tokens, View(at, mask & same_segment))
        torch.testing.assert_close(torch.cat(answers, 1)[real], expected[real], rtol=1e-5, atol=1e-5)


class Placed(nn.Module):
    """Every way of knowing places and times, around softmax and around a window."""

    def __init__(self):
        super().__init__()
        biases = ALiBi(2), RelativeBias(2, 5), IntervalBias(2), IntervalBias(2, of="position", buckets=4)
        for bias in biases[1:]:
            nn.init.normal_(bias.table)
        kernels = Softmax(), Window(window(4, ahead=1), block=3), Additive(HEAD_WIDTH)
        self.attentions = nn.ModuleList(
            Attention(2 * HEAD_WIDTH, 2, kernel=kernel, bias=bias) for kernel in kernels for bias in biases
        )
        self.positions = nn.ModuleList([LearnedPositions(50, 2 * HEAD_WIDTH), SinusoidalPositions(2 * HEAD_WIDTH)])

    def forward(self, tokens, lengths, time):
        at = rows(lengths, tokens.shape[1])._replace(time=time)
        view = View(at, causal & same_segment)
        return [*(a(tokens, view) for a in self.attentions), *(tokens + p(at.position) for p in self.positions)]


def test_positions_and_biases(through_onnx):
    module = Placed()
    dynamic = {"tokens": ("batch", "time"), "lengths": ("batch",), "time": ("batch", "time")}

    def given(batch, time):
        tokens, lengths = torch.randn(batch, time, 2 * HEAD_WIDTH), example(batch, time)[1]
        return tokens, lengths, torch.randint(0, 4_000_000, (batch, time)).cumsum(1)

    run = through_onnx(module, dict(zip(dynamic, given(5, 7), strict=True)), dynamic)
    for batch, time in SIZES:
        inputs = given(batch, time)
        for number, (got, wanted) in enumerate(zip(run(*inputs), module(*inputs), strict=True)):
            message = f"output {number} at {batch} x {time}: {{}}".format
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5, msg=message)
