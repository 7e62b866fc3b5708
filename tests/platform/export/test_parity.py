from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from headwise.errors import ParityError
from headwise.export import TOLERANCE, Arrays, Graph, Runner, prove, write

WIDTH, ITEMS = 5, 7
INF = float("inf")


class Head(nn.Module):
    """Scores, and which is best."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, ITEMS)

    def forward(self, tokens: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.linear(tokens) - bias
        return scores, scores.argmax(1)


@pytest.fixture
def runner(written: tuple[Head, Path]) -> Runner:
    module, path = written
    same = Head()
    same.load_state_dict(module.state_dict())
    return Runner(same, path, ("scores", "best"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Head, Path]:
    torch.manual_seed(3)
    module, path, batch = Head(), tmp_path_factory.mktemp("graph") / "head.onnx", Dim("batch")
    inputs = {"tokens": torch.ones(2, WIDTH), "bias": torch.ones(2, ITEMS)}
    write(Graph(module, inputs, ("scores", "best"), {"tokens": {0: batch}, "bias": {0: batch}}), path, {})
    return module, path


def batches(*sizes: int) -> Iterator[Arrays]:
    rng = np.random.default_rng(3)
    for size in sizes:
        # The other way round than the module takes them.
        yield {
            "bias": rng.normal(size=(size, ITEMS)).astype(np.float32),
            "tokens": rng.normal(size=(size, WIDTH)).astype(np.float32),
        }


def other_best(want: Arrays, got: Arrays) -> int:
    return int((want["best"] != got["best"]).sum())


def proof(runner: Any, inputs: Any, same: Callable[[Arrays, Arrays], int] = lambda want, got: 0) -> dict[str, Any]:
    return prove(runner, inputs, scores="scores", same=same, what="best items")


def saying(want: list[list[float]], got: list[list[float]]) -> SimpleNamespace:
    return SimpleNamespace(
        by_module=lambda _: {"scores": np.array(want, np.float32)},
        by_graph=lambda _: {"scores": np.array(got, np.float32)},
    )


def test_a_graph_that_is_the_model_is_proved(runner: Runner) -> None:
    parity = proof(runner, batches(1, 2, 17), other_best)
    assert parity["rows"] == 20
    assert parity["max_difference"] < 1e-5
    assert parity["tolerance"] == TOLERANCE


def test_a_weight_that_moved_is_seen(runner: Runner) -> None:
    with torch.no_grad():
        runner.module.linear.bias[3] += 0.0037  # type: ignore[union-attr, operator]
    with pytest.raises(
        ParityError, match=r"on 19 inputs scores differ by up to 0\.0037 \(allowed: 0\.0001\) and 0 best"
    ):
        proof(runner, batches(2, 17))


def test_an_answer_that_changed_is_seen_though_scores_agree(runner: Runner) -> None:
    with pytest.raises(ParityError, match="and 3 best items differ; nothing was exported"):
        proof(runner, batches(2, 17), lambda want, got: len(want["best"]) == 17 and 3)


def test_difference_by_hand() -> None:
    parity = proof(saying([[1, -INF, 0.5]], [[1, -INF, 0.50003]]), [{}])
    assert parity["max_difference"] == pytest.approx(3e-5, rel=1e-2)


@pytest.mark.parametrize(
    ("want", "got"),
    [([1, 2], [1, 2.0002]), ([1, INF], [1, -INF]), ([1, 2], [1, -INF]), ([1, np.nan], [1, np.nan]), ([1, 2], [1])],
    ids=["far", "other infinity", "missing", "not a number", "other shape"],
)
def test_what_is_no_agreement(want: list[float], got: list[float]) -> None:
    with pytest.raises(ParityError, match="the exported graph is not the model: on 1 inputs"):
        proof(saying([want], [got]), [{}])


def test_one_bad_batch_among_good_ones_is_enough() -> None:
    answers = iter([[[1.0, 2.0]], [[1.0, 3.0]], [[1.0, 2.0]]])
    runner = SimpleNamespace(
        by_module=lambda _: {"scores": np.array([[1.0, 2.0]])}, by_graph=lambda _: {"scores": np.array(next(answers))}
    )
    with pytest.raises(ParityError, match="on 3 inputs scores differ by up to 1 "):
        proof(runner, [{}, {}, {}])


def test_no_input_is_no_proof(runner: Runner) -> None:
    with pytest.raises(ParityError, match="compared with the model on no input"):
        proof(runner, [])
