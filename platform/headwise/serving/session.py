"""ONNX Runtime sessions for the graphs of a model folder."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from headwise.errors import InputError

LARGE = (
    64 << 20
)  # bytes of weights; above it the copy that prepacking makes costs more than it saves (1.6x at 256 MB, batch 1)
ERRORS_ONLY = 3
NUMPY = {"float": "float32", "double": "float64"}  # of ONNX Runtime's names, those that NumPy has not


class Session:
    """One graph, ready to run; safe to use from several threads at once.

    Args:
        path: the `.onnx` file; weights beside it (`<file>.data`) are found by themselves.
        inputs: the names that the caller feeds.
        outputs: the names that the caller reads, in the order in which `run` gives them.
        threads: for one run. One is best for the sizes at which requests are answered on a CPU.

    Raises:
        InputError: the file is no graph that this ONNX Runtime can load, or has other inputs or outputs.

    Attributes:
        takes: name, type and shape of each input; the sizes that are free have names.
        gives: of each output that the caller reads.
    """

    def __init__(self, path: Path, *, inputs: Iterable[str], outputs: Iterable[str], threads: int = 1) -> None:
        try:
            self._session = onnxruntime.InferenceSession(path, _options(path, threads), ["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own classes share no other base
            raise InputError(f"{path}: ONNX Runtime cannot load it ({error}); export the model again") from error
        self.outputs = tuple(outputs)
        self.takes = [_signature(node) for node in self._session.get_inputs()]
        by_name = {node.name: _signature(node) for node in self._session.get_outputs()}
        self.gives = [by_name[name] for name in self.outputs if name in by_name]
        _require(path, inputs, [node.name for node in self._session.get_inputs()], "inputs")
        _require(path, self.outputs, [node.name for node in self._session.get_outputs()], "outputs")

    def run(self, **feeds: np.ndarray) -> list[np.ndarray]:
        """The outputs for one batch, in the order of `outputs`."""
        return list(self._session.run(self.outputs, feeds))


def _signature(node: onnxruntime.NodeArg) -> tuple[str, np.dtype[Any], list[int | str]]:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    return node.name, np.dtype(NUMPY.get(kind, kind)), list(node.shape)


def _options(path: Path, threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    weights = sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))
    if weights > LARGE and not _quantised(path):
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def _quantised(path: Path) -> bool:
    # Products with quantised weights are fast only where those are packed; the copy is then a quarter as large.
    return path.stat().st_size < LARGE and b"MatMulNBits" in path.read_bytes()


def _require(path: Path, needed: Iterable[str], found: Iterable[str], what: str) -> None:
    if set(needed) != set(found):
        raise InputError(
            f"{path}: its {what} are {', '.join(found)}; this version of headwise needs {', '.join(needed)}: "
            "export the model again"
        )
