"""What must hold of the recommender whatever its kernel, in torch and in ONNX Runtime."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from headwise.attention import (
    Additive,
    Coordinates,
    Hierarchical,
    Kernel,
    Linear,
    Softmax,
    Window,
    causal,
    rows,
    window,
)
from headwise_recsys.model import SASRec, sasrec

ITEMS, WINDOW, HEAD_WIDTH = 29, 19, 26
HISTORIES = (17, 1, 11)
KERNELS: dict[str, Callable[[], Kernel]] = {
    "softmax": Softmax,
    "additive": lambda: Additive(HEAD_WIDTH),
    "window": lambda: Window(window(4), block=3),
    "linear": lambda: Linear(chunk=3),
    "hierarchical": lambda: Hierarchical(HEAD_WIDTH, 3),
}
Run = Callable[[Tensor, Tensor], Tensor]  # histories and lengths to what is expected next, at every position


def build(kernel: str, blocks: int = 2) -> SASRec:
    torch.manual_seed(3)
    width = 2 * HEAD_WIDTH
    model = sasrec(
        ITEMS, window=WINDOW, width=width, blocks=blocks, heads=2, hidden=17, kernel=KERNELS[kernel], rotary=True
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)  # at the start much is 0 or 1, which hides faults
    return model.eval().requires_grad_(False)


class Offline(nn.Module):
    """Every kernel's recommender over whole histories: an export takes seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.models = nn.ModuleDict({kernel: build(kernel, blocks=1) for kernel in KERNELS})

    def forward(self, history: Tensor, lengths: Tensor) -> list[Tensor]:
        return [model(history, rows(lengths, history.shape[1])) for model in self.models.values()]


class Steps(nn.Module):
    """Every kernel's recommender over the next items, given what it remembers."""

    def __init__(self, models: nn.ModuleDict) -> None:
        super().__init__()
        self.models = models
        self.forms = [tree_flatten(model.encoder.empty_states(1, WINDOW)) for model in models.values()]

    def forward(self, items: Tensor, lengths: Tensor, start: Tensor, *memory: Tensor) -> list[Tensor]:
        left, after, answers = list(memory), [], []
        for model, (parts, form) in zip(self.models.values(), self.forms, strict=True):
            mine, left = left[: len(parts)], left[len(parts) :]
            answer, states = step(model, items, rows(lengths, items.shape[1], start), tree_unflatten(mine, form))
            answers.append(answer)
            after += tree_flatten(states)[0]
        return [*answers, *after]

    def nothing(self, batch: int) -> list[Tensor]:
        states = [model.encoder.empty_states(batch, WINDOW) for model in self.models.values()]
        return [tensor for state in states for tensor in tree_flatten(state)[0]]


def step(model: SASRec, items: Tensor, at: Coordinates, states: list) -> tuple[Tensor, list]:
    return model.encoder.step(model.embedding(items), at, causal, states)


def histories(lengths: tuple[int, ...] = HISTORIES, seed: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    items = torch.randint(1, ITEMS + 1, (len(lengths), max(lengths)), generator=generator)
    return items * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]), torch.tensor(lengths)


def close(answer: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=2e-5)


@pytest.fixture(scope="module")
def offline() -> Offline:
    return Offline()


@pytest.fixture(scope="module")
def exported(offline: Offline, through_onnx: Callable) -> Callable[..., list[Tensor]]:
    inputs = dict(zip(("history", "lengths"), histories(), strict=True))
    return through_onnx(offline, inputs, {"history": ("batch", "time"), "lengths": ("batch",)})


@pytest.fixture(params=["torch", "ONNX Runtime"])
def run(request: pytest.FixtureRequest, kernel: str) -> Run:
    if request.param == "torch":
        model = build(kernel)
        return lambda items, lengths: model(items, rows(lengths, items.shape[1]))
    graph, number = request.getfixturevalue("exported"), list(KERNELS).index(kernel)
    return lambda items, lengths: graph(items, lengths)[number]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_future_cannot_change_the_past(run: Run) -> None:
    items, lengths = histories()
    answer = run(items, lengths)
    for now in (1, 7, 12):
        changed = items.clone()
        changed[:, now:] = histories(seed=11)[0][:, now:]
        other = run(changed, lengths)
        close(other[:, :now], answer[:, :now])
        assert not torch.allclose(other[0, now:], answer[0, now:])


@pytest.mark.parametrize("kernel", KERNELS)
def test_padding_cannot_change_the_answer(run: Run) -> None:
    items, lengths = histories()
    filled, _ = histories((19, 19, 19), seed=11)
    real = torch.arange(19) < lengths[:, None]
    filled[real] = items[real[:, :17]]
    close(run(filled, lengths)[real], run(items, lengths)[real[:, :17]])


@pytest.mark.parametrize("kernel", KERNELS)
def test_batch_mates_cannot_change_the_answer(run: Run) -> None:
    items, lengths = histories()
    answer = run(items, lengths)
    for row, length in enumerate(HISTORIES):
        close(run(items[row : row + 1, :length], lengths[row : row + 1])[0], answer[row, :length])


@pytest.mark.parametrize("kernel", KERNELS)
def test_packed_histories_say_what_they_say_alone(kernel: str) -> None:
    model, (items, _) = build(kernel), histories((7, 8, 3))
    packed = torch.cat([items[0, :7], items[1, :8], items[2, :3], torch.zeros(1).long()])
    at = Coordinates(
        torch.tensor([[*range(7), *range(8), *range(3), 0]]),
        torch.tensor([[1] * 7 + [2] * 8 + [3] * 3 + [0]]),
        torch.zeros(1, 19, dtype=torch.long),
    )
    together = model(packed[None], at)[0]
    for row, (start, length) in enumerate([(0, 7), (7, 8), (15, 3)]):
        alone = model(items[row : row + 1, :length], rows(torch.tensor([length]), length))
        close(together[start : start + length], alone[0])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [1, 4, 17])
def test_step_by_step_equals_all_at_once(kernel: str, size: int) -> None:
    model, (items, lengths) = build(kernel), histories()
    at, states, answers = rows(lengths, 17), model.encoder.empty_states(3, WINDOW), []
    for start in range(0, 17, size):
        here = at.map(lambda c: c[:, start : start + size])  # noqa: B023
        answer, states = step(model, items[:, start : start + size], here, states)
        answers.append(answer)
    real = at.segment > 0
    close(torch.cat(answers, 1)[real], model(items, at)[real])


def test_onnx_equals_torch(offline: Offline, exported: Callable[..., list[Tensor]]) -> None:
    for lengths in [(1,), (2, 1), (3, 19, 0), (5,) * 7]:
        items, lengths = histories(lengths)
        for kernel, got, wanted in zip(KERNELS, exported(items, lengths), offline(items, lengths), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=2e-5, msg=f"{kernel}, {lengths}: {{}}".format)


def test_step_by_step_in_onnx_equals_all_at_once(offline: Offline, through_onnx: Callable) -> None:
    steps = Steps(offline.models)
    inputs = {"items": histories((4,) * 7)[0], "lengths": torch.full((7,), 4), "start": torch.arange(7)}
    inputs |= {f"memory{number}": tensor for number, tensor in enumerate(steps.nothing(7))}
    run = through_onnx(steps, inputs, {name: ("batch", "time") if name == "items" else ("batch",) for name in inputs})

    items, lengths = histories()
    memory, answers = steps.nothing(3), []
    for start in range(0, 17, 3):
        now = items[:, start : start + 3]
        outputs = run(now, (lengths - start).clamp(0, now.shape[1]), torch.full((3,), start), *memory)
        answers.append(outputs[: len(KERNELS)])
        memory = outputs[len(KERNELS) :]
    real = rows(lengths, 17).segment > 0
    for parts, whole in zip(zip(*answers, strict=True), offline(items, lengths), strict=True):
        close(torch.cat(parts, 1)[real], whole[real])
