"""ONNX Runtime equals torch for every kind of block. One graph holds all kinds, since an export takes seconds."""

import torch
from torch import nn

from headwise.attention import Cache, Coordinates, View, causal, chunk, rows, same_segment
from headwise.transformer import State

WIDTH = 52
SIZES = [(1, 1), (1, 2), (2, 3), (3, 11), (7, 5)]  # batch, time


class Offline(nn.Module):
    def __init__(self, encoders):
        super().__init__()
        self.encoders = encoders

    def forward(self, tokens, lengths):
        view = View(rows(lengths, tokens.shape[1]), causal & same_segment)
        return [encoder(tokens, view) for encoder in self.encoders.values()]


class Step(nn.Module):
    """A step of every kind of block; what it remembers goes in and comes out as plain tensors."""

    def __init__(self, encoders, mask):
        super().__init__()
        self.encoders, self.mask = encoders, mask

    def forward(self, tokens, lengths, start, *memory):
        at, memory = rows(lengths, tokens.shape[1], start), list(memory)
        answers, after = [], []
        for encoder in self.encoders.values():
            key, value, *where = (memory.pop(0) for _ in range(5))
            convolves = encoder.blocks[0].convolution is not None
            past = memory.pop(0) if convolves else tokens.new_zeros(tokens.shape[0], 0, 0)
            answer, states = encoder.step(tokens, at, self.mask, [State(Cache(key, value, Coordinates(*where)), past)])
            answers.append(answer)
            after += tensors(states[0])
        return *answers, *after


def tensors(state):
    """A state as the graph has it: without the convolution's part where there is no convolution."""
    convolution = [state.convolution] if state.convolution.shape[2] else []
    return [state.attention.key, state.attention.value, *state.attention.at, *convolution]


def test_all_at_once(encoders, through_onnx):
    module = Offline(encoders())
    inputs = {"tokens": torch.randn(5, 7, WIDTH), "lengths": torch.tensor([7, 1, 5, 3, 2])}
    run = through_onnx(module, inputs, {"tokens": ("batch", "time"), "lengths": ("batch",)})
    for batch, time in SIZES:
        tokens = torch.randn(batch, time, WIDTH)
        lengths = torch.tensor([time, max(time - 2, 1), 0, 1, time, time, 0][:batch])
        answers, expected = run(tokens, lengths), module(tokens, lengths)
        for kind, got, wanted in zip(module.encoders, answers, expected, strict=True):
            message = f"{kind} at {batch} x {time}: {{}}".format
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5, msg=message)


def test_step_by_step(encoders, through_onnx):
    slots, mask = 5, chunk(3, left=5)
    module = Step(encoders(), mask)

    def nothing(batch):
        return [t for encoder in module.encoders.values() for t in tensors(encoder.empty_states(batch, slots)[0])]

    inputs = {"tokens": torch.randn(7, 4, WIDTH), "lengths": torch.full((7,), 4), "start": torch.arange(7)}
    inputs |= {f"memory{number}": tensor for number, tensor in enumerate(nothing(7))}
    run = through_onnx(module, inputs, {name: ("batch", "time") if name == "tokens" else ("batch",) for name in inputs})

    for lengths in [(11,), (13, 8, 1)]:
        batch, time, memory, answers = len(lengths), max(lengths), nothing(len(lengths)), []
        tokens, at = torch.randn(batch, time, WIDTH), rows(torch.tensor(lengths), time)
        for begin in range(0, time, 3):
            now = tokens[:, begin : begin + 3]
            left = (torch.tensor(lengths) - begin).clamp(0, now.shape[1])
            outputs = run(now, left, torch.full((batch,), begin), *memory)
            answers.append(outputs[: len(module.encoders)])
            memory = outputs[len(module.encoders) :]
        view, real = View(at, mask & same_segment), at.segment > 0
        for (kind, encoder), parts in zip(module.encoders.items(), zip(*answers, strict=True), strict=True):
            got, wanted = torch.cat(parts, 1)[real], encoder(tokens, view)[real]
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5, msg=f"{kind}, {lengths}: {{}}".format)
