from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from headwise.export import OPSET, Graph, write
from headwise.export import onnx as export_onnx

BATCH, TIME, WIDTH = 3, 5, 7


class Joined(nn.Module):
    """Two sequences, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.dropout(torch.cat([first, second], 1))


class Branching(nn.Module):
    """Does another thing to long sequences, which a graph cannot."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * 2 if tokens.shape[1] > 11 else tokens * 3


class Fixed(nn.Module):
    """Works for one length alone."""

    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Linear(TIME, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mixing(tokens.mT)  # type: ignore[no-any-return]


def graph(module: nn.Module, dynamic: Mapping[int, Any] | None = None) -> Graph:
    dims = {0: Dim("batch"), 1: Dim("time")} if dynamic is None else dynamic
    return Graph(module, {"tokens": torch.ones(BATCH, TIME, WIDTH)}, ("answer",), {"tokens": dims})


def joined() -> Graph:
    batch = Dim("batch")
    return Graph(
        Joined(),
        {"first": torch.ones(BATCH, TIME), "second": torch.ones(BATCH, 11)},
        ("both",),
        {"first": {0: batch, 1: Dim("time")}, "second": {0: batch, 1: Dim("later")}},
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "folder" / "joined.onnx"
    write(joined(), path, {"headwise.kind": "joint", "headwise.run": "r1"})
    return path


@pytest.mark.parametrize(("batch", "time", "later"), [(1, 1, 1), (2, 17, 3), (13, 11, 5)])
def test_any_size_gives_what_the_module_gives_outside_training(
    written: Path, batch: int, time: int, later: int
) -> None:
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    first, second = torch.randn(batch, time), torch.randn(batch, later)
    (both,) = session.run(None, {"first": first.numpy(), "second": second.numpy()})
    assert torch.equal(torch.from_numpy(both), torch.cat([first, second], 1))  # no dropout


def test_the_file_says_what_it_is_and_names_its_sizes(written: Path) -> None:
    model = onnx.load(written)
    onnx.checker.check_model(model)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "headwise.kind": "joint",
        "headwise.run": "r1",
    }
    sizes = {
        value.name: [size.dim_param for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert sizes["first"] == ["batch", "time"]
    assert sizes["second"] == ["batch", "later"]
    assert sizes["both"][0] == "batch"
    assert sizes["both"][1].replace(" ", "") in ("time+later", "later+time")


def test_a_branch_on_a_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"Constraints violated \(time\)"):
        write(graph(Branching()), tmp_path / "model.onnx", {})
    assert not list(tmp_path.iterdir())


def test_a_module_for_one_size_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"time as dynamic but your code specialized it to be a constant \(5\)"):
        write(graph(Fixed()), tmp_path / "model.onnx", {})
    assert not list(tmp_path.iterdir())


def test_a_size_without_a_name_is_refused(tmp_path: Path) -> None:
    # With it torch would export the branch for sequences of up to 11 and say nothing.
    with pytest.raises(TypeError, match=r"input tokens: dimension 1 must be a named torch.export.Dim, not .*AUTO"):
        write(graph(Branching(), {0: Dim("batch"), 1: Dim.AUTO}), tmp_path / "model.onnx", {})


def test_a_size_that_the_exporter_fixed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = torch.export.export
    monkeypatch.setattr(torch.export, "export", lambda module, args, dynamic_shapes: export(module, args))
    with pytest.raises(RuntimeError, match=r"input tokens: dimensions \[0, 1\] came out fixed"):
        write(graph(nn.Linear(WIDTH, 2)), tmp_path / "model.onnx", {})
    assert not list(tmp_path.iterdir())


def test_another_opset_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **options: export(*args, **options | {"opset_version": 24}))
    with pytest.raises(RuntimeError, match="the exporter wrote opset 24, not 23"):
        write(graph(nn.Linear(WIDTH, 2)), tmp_path / "model.onnx", {})


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(model: onnx.ModelProto, path: Path) -> None:
        path.write_bytes(model.SerializeToString()[:97])
        raise OSError(28, "No space left on device")

    path = tmp_path / "model.onnx"
    path.write_text("old")
    monkeypatch.setattr(onnx, "save", half)
    with pytest.raises(OSError, match="No space left"):
        write(graph(nn.Linear(WIDTH, 2)), path, {})
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_text() == "old"


def test_large_weights_lie_beside_the_graph_and_go_when_it_is_small_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, path, tokens = nn.Linear(WIDTH, 11), tmp_path / "model.onnx", torch.randn(2, 3, WIDTH)
    with monkeypatch.context() as patch:
        patch.setattr(export_onnx, "LARGE", 4 * 11 * WIDTH)
        patch.setattr(export_onnx, "SMALL", 4 * 11 * WIDTH)
        for _ in range(2):  # the second time over the first
            write(graph(layer), path, {})
        assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
        assert (tmp_path / "model.onnx.data").stat().st_size == 4 * 11 * WIDTH  # the bias is small
        (answer,) = onnxruntime.InferenceSession(path).run(None, {"tokens": tokens.numpy()})
        torch.testing.assert_close(torch.from_numpy(answer), layer(tokens).detach())
    write(graph(layer), path, {})
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_every_module_goes_on_in_the_mode_that_it_was_in(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5).eval(), Branching())
    with pytest.raises(RuntimeError):
        write(graph(module), tmp_path / "model.onnx", {})
    assert [part.training for part in module.modules()] == [True, True, False, True]
