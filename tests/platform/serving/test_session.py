from pathlib import Path

import numpy as np
import pytest

from headwise.errors import InputError
from headwise.serving import session
from headwise.serving.session import Session

SIGNATURE = {"inputs": ("waveform", "lengths"), "outputs": ("frames", "log_probs")}


def test_outputs_come_in_the_order_asked_for(recogniser_folder: Path) -> None:
    loaded = Session(recogniser_folder / "recogniser.onnx", **SIGNATURE)
    frames, log_probs = loaded.run(waveform=np.zeros((2, 4800), np.float32), lengths=np.array([4800, 1600]))
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


@pytest.mark.parametrize(
    ("graph", "weights", "packed"), [(b"Gemm", 7, True), (b"Gemm", 14, False), (b"MatMulNBits", 14, True)]
)
def test_large_weights_are_not_packed_but_quantised_ones_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph: bytes, weights: int, packed: bool
) -> None:
    monkeypatch.setattr(session, "LARGE", 17)
    (tmp_path / "a.onnx").write_bytes(graph)
    (tmp_path / "a.onnx.data").write_bytes(b"." * weights)
    options = session._options(tmp_path / "a.onnx", threads=1)
    if packed:
        with pytest.raises(RuntimeError):  # it was never set
            options.get_session_config_entry("session.disable_prepacking")
    else:
        assert options.get_session_config_entry("session.disable_prepacking") == "1"
