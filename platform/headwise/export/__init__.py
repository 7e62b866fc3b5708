"""From a trained module to an ONNX graph, and the proof that they agree."""

from headwise.export.onnx import OPSET, Graph, write
from headwise.export.parity import TOLERANCE, Arrays, Runner, prove

__all__ = ["OPSET", "TOLERANCE", "Arrays", "Graph", "Runner", "prove", "write"]
