import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

ONNX = {
    "opset": 23,  # the first with the Attention operator
    "known warnings": "torchvision is not installed|LeafSpec|isinstance.treespec|dynamic_axes|# The axis name",
}


@pytest.fixture
def through_onnx() -> Iterator[Callable]:
    """Exports a module as headwise does: torch.export with named dimensions first, so that no shape is baked in.

    Takes the module, an example of each input by name, and for each the names of its leading dimensions (None: fixed);
    gives a function from the same inputs to the list of outputs, computed by ONNX Runtime.
    """
    import onnxruntime
    import torch

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)

    def export(
        module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], dynamic: Mapping[str, Sequence[str | None]]
    ) -> Callable:
        dims = {name: torch.export.Dim(name) for name in {n for axes in dynamic.values() for n in axes if n}}
        free = [{axis: dims[n] for axis, n in enumerate(dynamic[name]) if n} for name in inputs]
        shapes = dict(inspect.signature(module.forward).bind(*free).arguments)  # by argument, also where one is *many
        with warnings.catch_warnings(), torch.no_grad():
            warnings.filterwarnings("ignore", message=f".*({ONNX['known warnings']})")
            program = torch.export.export(module.eval(), tuple(inputs.values()), dynamic_shapes=shapes)
            exported = torch.onnx.export(
                program, dynamo=True, opset_version=ONNX["opset"], input_names=list(inputs), verbose=False
            )
        model = exported.model_proto
        assert {entry.domain: entry.version for entry in model.opset_import}[""] == ONNX["opset"]
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        assert {value.name for value in session.get_inputs()} == set(inputs)
        return lambda *arrays: [
            torch.from_numpy(array)
            for array in session.run(None, {n: a.numpy() for n, a in zip(inputs, arrays, strict=True)})
        ]

    yield export
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
