import onnxruntime
import pytest
import torch

from headwise.export import Graph, write
from headwise_speech.graph import INPUTS, RecogniserGraph, dynamic_shapes, example
from headwise_speech.model import recogniser


@pytest.fixture(scope="module")
def graph() -> RecogniserGraph:
    torch.manual_seed(3)
    return RecogniserGraph(recogniser(13, width=22, blocks=1, heads=1, span=5, channels=3, mels=19), encoded=True)


@pytest.fixture(scope="module")
def session(graph: RecogniserGraph, tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    path = tmp_path_factory.mktemp("graph") / "recogniser.onnx"
    write(Graph(graph, dict(zip(INPUTS, example(), strict=True)), graph.outputs, dynamic_shapes()), path, {})
    return onnxruntime.InferenceSession(path)


def run(session: onnxruntime.InferenceSession, waveform: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
    return [
        torch.from_numpy(out) for out in session.run(None, {"waveform": waveform.numpy(), "lengths": lengths.numpy()})
    ]


@pytest.mark.parametrize(
    ("batch", "samples"), [(1, 1), (1, 159), (2, 160), (1, 641), (3, 1601), (5, 16_001), (1, 48_017)]
)
def test_equals_torch(session: onnxruntime.InferenceSession, graph: RecogniserGraph, batch: int, samples: int) -> None:
    waveform, lengths = example(batch, samples, seed=5)
    expected, frames, encoded = graph(waveform, lengths)
    log_probs, same, also = run(session, waveform, lengths)
    assert same.tolist() == frames.tolist()
    for row, length in enumerate(frames.tolist()):
        torch.testing.assert_close(log_probs[row, :length], expected[row, :length], atol=1e-4, rtol=0)
        torch.testing.assert_close(also[row, :length], encoded[row, :length], atol=1e-4, rtol=0)


def test_margin_belongs_to_no_row(graph: RecogniserGraph) -> None:
    waveform, lengths = example(2, 3001)
    (inside, frames, _), (bare, same) = graph(waveform, lengths), graph.model(waveform, lengths)
    assert frames.tolist() == same.tolist() == [5, 3]
    torch.testing.assert_close(inside[0, :5], bare[0, :5], atol=1e-5, rtol=0)


def test_padding_and_batch_mates_change_nothing(session: onnxruntime.InferenceSession) -> None:
    waveform, lengths = example(5, 7919)
    together, frames, _ = run(session, waveform, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, *_ = run(session, waveform[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(together[row, : frames[row]], alone[0, : frames[row]], atol=1e-4, rtol=0)


def test_it_gives_log_probabilities_alone_where_nothing_else_is_asked() -> None:
    graph = RecogniserGraph(recogniser(13, width=22, blocks=1, heads=1, span=5, channels=3, mels=19))
    assert graph.outputs == ("log_probs", "frames")
    assert len(graph(*example())) == 2
