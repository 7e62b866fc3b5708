"""ONNX Runtime behind HTTP; no torch here."""
