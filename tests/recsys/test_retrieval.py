import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from headwise.export import Graph, write
from headwise_recsys import retrieval
from headwise_recsys.retrieval import best_again, best_items, looked_at, rows_needed

ITEMS, BLOCK = 43, 5
NAMES = ("scores", "k", "barred", "allow")


class Best(nn.Module):
    def forward(self, scores: Tensor, k: Tensor, barred: Tensor, allow: Tensor) -> tuple[Tensor, Tensor]:
        count: Any = k.item()
        torch._check(count >= 1)
        torch._check(count <= ITEMS)
        return best_items(scores, count, barred=barred, allow=allow, items=ITEMS)


@pytest.fixture(scope="module", params=["everything", "blocks"])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "blocks":
            patch.setattr(retrieval, "LARGE", ITEMS - 1)
            patch.setattr(retrieval, "BLOCK", BLOCK)
        rows, path, batch = rows_needed(ITEMS), tmp_path_factory.mktemp("best") / "best.onnx", Dim("batch")
        inputs = [torch.rand(2, rows), torch.tensor(2), torch.zeros(2, 3).long(), torch.zeros(2, 5).long()]
        dynamic = [{0: batch}, {}, {0: batch, 1: Dim("barred")}, {0: batch, 1: Dim("allowed")}]
        write(
            Graph(
                Best(), dict(zip(NAMES, inputs, strict=True)), ("items", "best"), dict(zip(NAMES, dynamic, strict=True))
            ),
            path,
            {},
        )
        yield onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def asked(rng: np.random.Generator, rows: int, values: int) -> list[Tensor]:
    batch = int(rng.integers(1, 4))
    scores = rng.integers(-values, values + 1, (batch, rows)).astype(np.float32)
    barred = rng.integers(0, ITEMS + 1, (batch, int(rng.integers(1, 30))))
    allow = rng.integers(1, ITEMS + 1, (batch, int(rng.integers(1, 60)))) * (rng.random((batch, 1)) < 0.5)
    allow *= rng.random(allow.shape) < 0.8
    return [torch.from_numpy(value) for value in (scores, np.array(rng.integers(1, ITEMS + 1)), barred, allow)]


def by_the_rules(scores: Tensor, k: Tensor, barred: Tensor, allow: Tensor) -> tuple[list[list[int]], list[list[float]]]:
    every = []
    for row in range(len(scores)):
        eligible = (set(allow[row].tolist()) - {0} or set(range(1, ITEMS + 1))) - set(barred[row].tolist())
        every.append(sorted((-float(scores[row, item]), item) for item in eligible)[: int(k)])
    missing = [int(k) - len(best) for best in every]
    items = [[item for _, item in best] + [0] * left for best, left in zip(every, missing, strict=True)]
    values = [[-score for score, _ in best] + [-math.inf] * left for best, left in zip(every, missing, strict=True)]
    return items, values


def test_rows_fill_whole_blocks_of_large_catalogues_alone() -> None:
    assert rows_needed(retrieval.LARGE) == retrieval.LARGE + 1
    assert rows_needed(retrieval.LARGE + 1) % retrieval.BLOCK == 0
    assert rows_needed(1_000_000) == 1_000_448


@pytest.mark.parametrize("values", [0, 2, 1000])  # all scores equal, many of them, few
def test_the_best_that_are_allowed_and_equal_ones_in_the_order_of_the_catalogue(session: Any, values: int) -> None:
    rng = np.random.default_rng(3)
    rows = session.get_inputs()[0].shape[1]
    for _ in range(150):
        inputs = asked(rng, rows, values)
        items, best = session.run(None, {name: value.numpy() for name, value in zip(NAMES, inputs, strict=True)})
        assert (items.tolist(), best.tolist()) == by_the_rules(*inputs)
        by_torch = Best()(*inputs)[1]  # whose equal items come in any order
        assert by_torch.tolist() == best.tolist()


class Again(nn.Module):
    def forward(self, expected: Tensor, table: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        return best_again(expected, table, candidates, 5)


def test_candidates_are_ranked_anew_by_their_exact_scores(tmp_path: Path) -> None:
    table = torch.tensor([[0.0, 0], [1, 0], [0, 2], [3, 3], [-1, 1]])
    inputs = {
        "expected": torch.tensor([[1.0, 2.0], [0.0, 1.0]]),
        "table": table,
        "candidates": torch.tensor([[4, 3, 0, 1, 2, 0], [0, 2, 4, 0, 1, 3]]),
    }
    dynamic = {"expected": {0: Dim("batch")}, "table": {}, "candidates": {0: Dim("batch")}}
    write(Graph(Again(), inputs, ("items", "scores"), dynamic), tmp_path / "again.onnx", {})
    session = onnxruntime.InferenceSession(tmp_path / "again.onnx", providers=["CPUExecutionProvider"])
    items, scores = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    assert scores.tolist() == [[9, 4, 1, 1, -math.inf], [3, 2, 1, 0, -math.inf]]
    assert items.tolist() == [
        [3, 2, 1, 4, 0],
        [3, 2, 4, 1, 0],
    ]  # 1 and 4 score the same, whichever was the better candidate
    assert Again()(*inputs.values())[1].tolist() == scores.tolist()


def test_more_than_are_asked_for_are_looked_at_again() -> None:
    assert looked_at(10, 1000) == 64
    assert looked_at(1000, 3000) == 3000
