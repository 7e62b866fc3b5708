from pathlib import Path

import onnxruntime
import pytest
import torch
from torch.export import Dim

from headwise.export import Graph, write
from headwise_recsys.quantised import QuantisedTable

ROWS = 37


def table(width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    sizes = torch.logspace(-3, 2, ROWS)[:, None]  # rows of very different lengths
    return torch.randn(ROWS, width, generator=generator) * sizes


@pytest.mark.parametrize("width", [32, 64, 80, 22])
def test_each_number_is_within_half_a_step_of_its_own_rows_scale(width: int) -> None:
    exact, quantised = table(width), QuantisedTable(table(width))
    assert quantised.codes.dtype == torch.uint8
    error = (quantised.restored() - exact).abs()
    assert (error <= exact.abs().amax(1, keepdim=True) / 127 / 2 * 1.001).all()


def test_by_hand() -> None:
    quantised = QuantisedTable(torch.tensor([[1.27, -0.5, 0.004] + [0.0] * 29, [0.0] * 32]))
    assert quantised.codes[0, 0, :3].tolist() == [128 + 127, 128 - 50, 128]
    assert quantised.scales[0].item() == pytest.approx(0.01)
    assert not quantised.restored()[1].any()  # a row of zeros has no scale to be divided by


@pytest.mark.parametrize("width", [64, 80])
def test_a_graph_computes_nearly_the_same(width: int, tmp_path: Path) -> None:
    quantised = QuantisedTable(table(width))
    vectors = torch.randn(5, width, generator=torch.Generator().manual_seed(5))
    write(Graph(quantised, {"vectors": vectors}, ("scores",), {"vectors": {0: Dim("batch")}}), tmp_path / "q.onnx", {})
    (scores,) = onnxruntime.InferenceSession(tmp_path / "q.onnx").run(None, {"vectors": vectors.numpy()})
    exact = vectors @ table(width).T
    sizes = table(width).norm(dim=1) * vectors.norm(dim=1, keepdim=True)
    assert ((torch.from_numpy(scores) - exact).abs() / sizes).max() < 0.01
    assert ((quantised(vectors) - exact).abs() / sizes).max() < 0.01
