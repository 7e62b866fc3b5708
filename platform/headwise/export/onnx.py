"""From a module to an ONNX file whose batch and time are free."""

import inspect
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from headwise.files import replacing

OPSET = 23  # the first with the Attention operator; from 26 on the exporter writes files that ONNX Runtime refuses
LARGE = 64 << 20  # bytes of weights; above it they lie beside the graph, from where they are mapped and not copied
SMALL = 1 << 16  # bytes; what is smaller stays in the graph all the same


@dataclass(frozen=True)
class Graph:
    """What there is to export.

    Attributes:
        module: takes the inputs in their order, some of them as `*others` if need be, and returns the outputs in theirs.
        inputs: an example of each, by name; distinct tensors with at least two rows.
        outputs: their names.
        dynamic: for each input, which of its dimensions may change, and the name and range of each.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    dynamic: Mapping[str, Mapping[int, Dim]]


def write(graph: Graph, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes the graph as ONNX, whole or not at all.

    `torch.export` goes first with named dimensions: it refuses a Python branch on a shape, which the ONNX exporter alone
    would bake in silently.

    Args:
        graph: what to export.
        path: the `.onnx` file; large weights lie beside it, in `<file>.data`.
        metadata: kept in the file, for whoever finds it alone.

    Raises:
        TypeError: a dimension is not a `Dim`; what else torch takes there lets it narrow or fix the size without a word.
        RuntimeError: the module branches on a size that should be free, or fixes it.
    """
    _check_named(graph)
    training = [(module, module.training) for module in graph.module.modules()]
    graph.module.eval()
    try:
        with _quiet(), torch.no_grad():
            sizes = [dict(graph.dynamic[name]) for name in graph.inputs]
            program = torch.export.export(
                graph.module,
                tuple(graph.inputs.values()),
                dynamic_shapes=dict(inspect.signature(graph.module.forward).bind(*sizes).arguments),
            )
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                verbose=False,
            )
    finally:
        for module, was in training:  # each its own: a fresh wrapper around a model in evaluation is itself in training
            module.training = was
    assert exported is not None
    model = exported.model_proto
    _check_free(model, graph)
    _name_sizes(model, graph)
    onnx.helper.set_model_props(model, dict(metadata))
    _save(model, path)


def _save(model: onnx.ModelProto, path: Path) -> None:
    data = path.with_name(f"{path.name}.data")
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) < LARGE:
        with replacing(path) as draft:
            onnx.save(model, draft)
        data.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        draft = Path(scratch) / path.name
        onnx.save(model, draft, save_as_external_data=True, location=data.name, size_threshold=SMALL)
        (draft.parent / data.name).replace(data)
        draft.replace(path)


def _check_named(graph: Graph) -> None:
    for name, sizes in graph.dynamic.items():
        for axis, dim in sizes.items():
            if not isinstance(dim, Dim):
                raise TypeError(f"input {name}: dimension {axis} must be a named torch.export.Dim, not {dim!r}")


def _check_free(model: onnx.ModelProto, graph: Graph) -> None:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if versions.get("") != OPSET:
        raise RuntimeError(f"the exporter wrote opset {versions.get('')}, not {OPSET}")
    for value in model.graph.input:
        sizes = value.type.tensor_type.shape.dim
        fixed = [axis for axis in graph.dynamic[value.name] if not sizes[axis].dim_param]
        if fixed:
            raise RuntimeError(
                f"input {value.name}: dimensions {fixed} came out fixed; the module depends on their size"
            )


def _name_sizes(model: onnx.ModelProto, graph: Graph) -> None:
    # The exporter calls the free sizes s18, s1, ...: give them back their names, in expressions too.
    names = {
        value.type.tensor_type.shape.dim[axis].dim_param: dim.__name__
        for value in model.graph.input
        for axis, dim in graph.dynamic[value.name].items()
    }
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), size.dim_param)


@contextmanager
def _quiet() -> Iterator[None]:
    # The exporter warns of its own deprecated internals, of torchvision's absence, and of each renamed dimension.
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", message=".*dynamic_axes.*|.*torchvision.*|.*# The axis name.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
