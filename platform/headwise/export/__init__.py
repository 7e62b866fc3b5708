"""torch.onnx: graphs, and the proof that they equal the model."""
