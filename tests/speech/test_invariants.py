"""What must hold of the recogniser whatever its kernel, in torch and in ONNX Runtime."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_flatten, tree_unflatten

from headwise.attention import (
    Additive,
    Coordinates,
    Hierarchical,
    Kernel,
    Linear,
    Mask,
    Softmax,
    Window,
    causal,
    chunk,
    rows,
    same_segment,
    window,
)
from headwise_speech.model import Recogniser, recogniser
from headwise_speech.subsampling import REDUCTION

VOCAB, HEAD_WIDTH, MELS, SLOTS = 13, 26, 19, 23
FRAMES = (67, 1, 43)
TIMES = (17, 1, 11)  # tokens of these
KERNELS: dict[str, Callable[[], Kernel]] = {
    "softmax": Softmax,
    "additive": lambda: Additive(HEAD_WIDTH),
    "window": lambda: Window(window(4, ahead=2), block=3),
    "linear": lambda: Linear(chunk=3),
    "hierarchical": lambda: Hierarchical(HEAD_WIDTH, 3),
}
STREAMING = causal & same_segment  # a mask that every kernel follows
Run = Callable[[Tensor, Tensor], Tensor]  # spectrograms and their frames to log-probabilities


def build(kernel: str, mask: Mask, blocks: int = 2) -> Recogniser:
    torch.manual_seed(3)
    sizes = {"width": 2 * HEAD_WIDTH, "blocks": blocks, "heads": 2, "span": 3, "channels": 3, "mels": MELS}
    model = recogniser(VOCAB, mask=mask, kernel=KERNELS[kernel], **sizes)  # type: ignore[arg-type]
    torch.manual_seed(5)  # once more, so that all hear the same tokens
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval().requires_grad_(False)


class Offline(nn.Module):
    """Every kernel's recogniser, of whole utterances and of causal ones: an export takes seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = nn.ModuleDict({kernel: build(kernel, same_segment, blocks=1) for kernel in KERNELS})
        self.causal = nn.ModuleDict({kernel: build(kernel, STREAMING, blocks=1) for kernel in KERNELS})

    def forward(self, spectrogram: Tensor, frames: Tensor) -> list[Tensor]:
        spectrogram = F.pad(spectrogram, (0, 0, 0, REDUCTION))  # a token more, as the exported recogniser has it
        return [model.log_probs(spectrogram, frames)[0] for model in (*self.whole.values(), *self.causal.values())]


class Steps(nn.Module):
    """Every kernel's causal recogniser over the next tokens, given what it remembers."""

    def __init__(self, models: nn.ModuleDict) -> None:
        super().__init__()
        self.models = models
        self.forms = [tree_flatten(model.encoder.empty_states(1, SLOTS)) for model in models.values()]

    def forward(self, tokens: Tensor, lengths: Tensor, start: Tensor, *memory: Tensor) -> list[Tensor]:
        left, after, answers = list(memory), [], []
        at = rows(lengths, tokens.shape[1], start)
        for model, (parts, form) in zip(self.models.values(), self.forms, strict=True):
            mine, left = left[: len(parts)], left[len(parts) :]
            answer, states = step(model, tokens, at, tree_unflatten(mine, form))
            answers.append(answer)
            after += tree_flatten(states)[0]
        return [*answers, *after]

    def nothing(self, batch: int) -> list[Tensor]:
        states = [model.encoder.empty_states(batch, SLOTS) for model in self.models.values()]
        return [tensor for state in states for tensor in tree_flatten(state)[0]]


def step(model: Recogniser, tokens: Tensor, at: Coordinates, states: list) -> tuple[Tensor, list]:
    hidden, states = model.encoder.step(tokens, at, model.mask, states)
    return model.head(hidden).log_softmax(-1), states


def spectrograms(frames: tuple[int, ...] = FRAMES, seed: int = 5) -> tuple[Tensor, Tensor]:
    noise = torch.randn(len(frames), max(frames), MELS, generator=torch.Generator().manual_seed(seed))
    return noise * (torch.arange(max(frames)) < torch.tensor(frames)[:, None])[..., None], torch.tensor(frames)


def close(answer: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=5e-5)


@pytest.fixture(scope="module")
def offline() -> Offline:
    return Offline()


@pytest.fixture(scope="module")
def exported(offline: Offline, through_onnx: Callable) -> Callable[..., list[Tensor]]:
    inputs = dict(zip(("spectrogram", "frames"), spectrograms(), strict=True))
    return through_onnx(offline, inputs, {"spectrogram": ("batch", "time"), "frames": ("batch",)})


@pytest.fixture(params=["torch", "ONNX Runtime"])
def run(request: pytest.FixtureRequest, kernel: str, mask: Mask) -> Run:
    if request.param == "torch":
        model = build(kernel, mask)
        return lambda spectrogram, frames: model.log_probs(spectrogram, frames)[0]
    graph = request.getfixturevalue("exported")
    number = list(KERNELS).index(kernel) + len(KERNELS) * (mask is STREAMING)
    return lambda spectrogram, frames: graph(spectrogram, frames)[number]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("mask", [STREAMING], ids=repr)
def test_the_future_cannot_change_the_past(run: Run) -> None:
    spectrogram, frames = spectrograms()
    answer = run(spectrogram, frames)
    for now in (1, 7, 12):  # tokens, each of which hears three frames more than its own four
        changed, later = spectrogram.clone(), REDUCTION * now
        changed[:, later:] = spectrograms(seed=11)[0][:, later:]
        other = run(changed, frames)
        close(other[:, :now], answer[:, :now])
        assert not torch.allclose(other[0, now:], answer[0, now:], atol=1e-3)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("mask", [same_segment, STREAMING], ids=repr)
def test_padding_cannot_change_the_answer(run: Run) -> None:
    spectrogram, frames = spectrograms()
    filled, _ = spectrograms((83, 83, 83), seed=11)
    real = torch.arange(83) < frames[:, None]
    filled[real] = spectrogram[real[:, :67]]
    answer, other = run(spectrogram, frames), run(filled, frames)
    for row, time in enumerate(TIMES):
        close(other[row, :time], answer[row, :time])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("mask", [same_segment, STREAMING], ids=repr)
def test_batch_mates_cannot_change_the_answer(run: Run) -> None:
    spectrogram, frames = spectrograms()
    answer = run(spectrogram, frames)
    for row, (frame, time) in enumerate(zip(FRAMES, TIMES, strict=True)):
        close(run(spectrogram[row : row + 1, :frame], frames[row : row + 1])[0, :time], answer[row, :time])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [1, 4, 17])
def test_step_by_step_equals_all_at_once(kernel: str, size: int) -> None:
    model, (spectrogram, frames) = build(kernel, STREAMING), spectrograms()
    tokens, time = model.subsampling(spectrogram, frames)
    at, states, answers = rows(time, 17), model.encoder.empty_states(3, SLOTS), []
    for start in range(0, 17, size):
        here = at.map(lambda c: c[:, start : start + size])  # noqa: B023
        answer, states = step(model, tokens[:, start : start + size], here, states)
        answers.append(answer)
    real = at.segment > 0
    close(torch.cat(answers, 1)[real], model.log_probs(spectrogram, frames)[0][real])


@pytest.mark.parametrize("kernel", ["softmax", "additive", "window"])
def test_chunk_by_chunk_equals_all_at_once(kernel: str) -> None:
    mask = chunk(3, left=6) & same_segment
    model, (spectrogram, frames) = build(kernel, mask), spectrograms()
    tokens, time = model.subsampling(spectrogram, frames)
    at, states, answers = rows(time, 17), model.encoder.empty_states(3, 6), []
    for start in range(0, 17, 3):
        here = at.map(lambda c: c[:, start : start + 3])  # noqa: B023
        answer, states = step(model, tokens[:, start : start + 3], here, states)
        answers.append(answer)
    real = at.segment > 0
    close(torch.cat(answers, 1)[real], model.log_probs(spectrogram, frames)[0][real])


@pytest.mark.parametrize("kernel", ["linear", "hierarchical"])
def test_a_kernel_that_cannot_stream_in_chunks_says_so_when_it_is_built(kernel: str) -> None:
    with pytest.raises(ValueError, match="cannot follow the mask"):
        build(kernel, chunk(3, left=6) & same_segment)


def test_onnx_equals_torch(offline: Offline, exported: Callable[..., list[Tensor]]) -> None:
    for frames in [(5,), (9, 8), (11, 79, 1), (23,) * 7]:
        spectrogram, lengths = spectrograms(frames)
        times = (lengths + REDUCTION - 1) // REDUCTION
        real = torch.arange(int(times.max()) + 1) < times[:, None]
        for number, (got, wanted) in enumerate(
            zip(exported(spectrogram, lengths), offline(spectrogram, lengths), strict=True)
        ):
            message = f"{[*KERNELS, *KERNELS][number]}, {frames}: {{}}".format
            torch.testing.assert_close(got[real], wanted[real], rtol=1e-4, atol=5e-5, msg=message)


def test_step_by_step_in_onnx_equals_all_at_once(offline: Offline, through_onnx: Callable) -> None:
    steps, model = Steps(offline.causal), offline.causal["softmax"]
    inputs = {"tokens": torch.randn(7, 4, 2 * HEAD_WIDTH), "lengths": torch.full((7,), 4), "start": torch.arange(7)}
    inputs |= {f"memory{number}": tensor for number, tensor in enumerate(steps.nothing(7))}
    run = through_onnx(steps, inputs, {name: ("batch", "time") if name == "tokens" else ("batch",) for name in inputs})

    spectrogram, frames = spectrograms()
    tokens, times = model.subsampling(spectrogram, frames)  # the same in all of them, being built from one seed
    memory, answers = steps.nothing(3), []
    for start in range(0, 17, 3):
        now = tokens[:, start : start + 3]
        outputs = run(now, (times - start).clamp(0, now.shape[1]), torch.full((3,), start), *memory)
        answers.append(outputs[: len(KERNELS)])
        memory = outputs[len(KERNELS) :]
    real = rows(times, 17).segment > 0
    for parts, whole in zip(zip(*answers, strict=True), offline(spectrogram, frames)[len(KERNELS) :], strict=True):
        close(torch.cat(parts, 1)[real], whole[:, :17][real])
