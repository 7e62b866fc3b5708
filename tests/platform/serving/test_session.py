from pathlib import Path

import numpy as np
import pytest

from headwise.errors import InputError
from headwise.serving.session import Session

SIGNATURE = {"inputs": ("waveform", "lengths"), "outputs": ("frames", "log_probs")}


def test_outputs_come_in_the_order_asked_for(recogniser_folder: Path) -> None:
    session = Session(recogniser_folder / "recogniser.onnx", **SIGNATURE)
    frames, log_probs = session.run(waveform=np.zeros((2, 4800), np.float32), lengths=np.array([4800, 1600]))
    assert frames.tolist() == [3, 1]
    assert log_probs.shape == (2, 3, 5)


def test_another_signature_is_refused(recogniser_folder: Path) -> None:
    with pytest.raises(InputError, match=r"recogniser.onnx: its inputs are waveform, lengths; .* needs history"):
        Session(recogniser_folder / "recogniser.onnx", inputs=["history"], outputs=["items"])


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match=r"a.onnx: ONNX Runtime cannot load it .*export the model again"):
        Session(tmp_path / "a.onnx", **SIGNATURE)
    with pytest.raises(InputError, match=r"b.onnx: ONNX Runtime cannot load it"):
        Session(tmp_path / "b.onnx", **SIGNATURE)
