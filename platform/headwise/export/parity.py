"""The proof that a graph is the model: ONNX Runtime and torch on the same inputs."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from headwise.errors import ParityError

Arrays = Mapping[str, NDArray[np.generic]]
TOLERANCE = 1e-4


class Twins(Protocol):
    """A graph and the module that it must agree with."""

    def by_graph(self, inputs: Arrays) -> Arrays:
        """What the graph answers."""

    def by_module(self, inputs: Arrays) -> Arrays:
        """What the module answers."""


class Runner:
    """A graph in ONNX Runtime and the module that it came from, asked the same questions.

    Args:
        module: the module, as exported.
        path: its `.onnx` file.
        outputs: the names of what both return.
    """

    def __init__(self, module: nn.Module, path: Path, outputs: tuple[str, ...]) -> None:
        self.module, self.outputs = module.eval(), outputs
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def by_graph(self, inputs: Arrays) -> dict[str, NDArray[np.generic]]:
        """What the graph answers."""
        return dict(zip(self.outputs, self.session.run(list(self.outputs), dict(inputs)), strict=True))

    def by_module(self, inputs: Arrays) -> dict[str, NDArray[np.generic]]:
        """What the module answers."""
        names = [value.name for value in self.session.get_inputs()]  # in the module's order, whatever that of `inputs`
        with torch.inference_mode():
            answers = self.module(*(torch.from_numpy(np.asarray(inputs[name])) for name in names))
        return {name: answer.numpy() for name, answer in zip(self.outputs, answers, strict=True)}


def prove(
    runner: Twins,
    batches: Iterable[Arrays],
    *,
    scores: str,
    same: Callable[[Arrays, Arrays], int],
    what: str,
) -> dict[str, float | int]:
    """How far the graph is from the module on real inputs.

    Args:
        runner: both of them.
        batches: real inputs.
        scores: the output whose values are compared.
        same: from the module's and the graph's outputs, how many rows give a user another answer.
        what: what an answer is, for the message: "top-10 lists", "transcripts".

    Returns:
        `rows` compared, `max_difference` of scores, and `tolerance`.

    Raises:
        ParityError: scores differ by more than the tolerance or are not numbers, an answer differs, or there is no input.
    """
    rows, furthest, changed = 0, 0.0, 0
    for inputs in batches:
        want, got = runner.by_module(inputs), runner.by_graph(inputs)
        rows += len(want[scores])
        furthest = max(furthest, _distance(want[scores], got[scores]))
        changed += same(want, got)
    if not rows:
        raise ParityError("the exported graph was compared with the model on no input; nothing was exported")
    if changed or not furthest <= TOLERANCE:
        raise ParityError(
            f"the exported graph is not the model: on {rows} inputs scores differ by up to {furthest:.2g} "
            f"(allowed: {TOLERANCE:g}) and {changed} {what} differ; nothing was exported"
        )
    return {"rows": rows, "max_difference": furthest, "tolerance": TOLERANCE}


def _distance(want: NDArray[np.generic], got: NDArray[np.generic]) -> float:
    a, b = want.astype(np.float64), got.astype(np.float64)
    if a.shape != b.shape:
        return float("inf")
    finite = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite]):  # the same infinities agree; what is not a number never does
        return float("inf")
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0))
