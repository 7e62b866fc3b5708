from pathlib import Path

import onnxruntime
import pytest
import torch

from headwise.transformer import rollout
from headwise_speech.graph import (
    EXPLAINED_OUTPUTS,
    INPUTS,
    OUTPUTS,
    ExplanationGraph,
    RecogniserGraph,
    dynamic_shapes,
    example,
)
from headwise_speech.model import recogniser

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def graph() -> RecogniserGraph:
    torch.manual_seed(3)
    return RecogniserGraph(recogniser(13, width=22, blocks=1, heads=1, span=5, channels=3, mels=19))


@pytest.fixture(scope="module")
def session(graph: RecogniserGraph, tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    return exported(graph, OUTPUTS, tmp_path_factory.mktemp("graph") / "recogniser.onnx")


def exported(graph: torch.nn.Module, outputs: tuple[str, ...], path: Path) -> onnxruntime.InferenceSession:
    program = torch.export.export(graph, example(), dynamic_shapes=dynamic_shapes())
    names = {"input_names": list(INPUTS), "output_names": list(outputs)}
    torch.onnx.export(program, opset_version=23, verbose=False, **names).save(path)
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
    expected, frames = graph(waveform, lengths)
    log_probs, same = run(session, waveform, lengths)
    assert same.tolist() == frames.tolist()
    for row, length in enumerate(frames.tolist()):
        torch.testing.assert_close(log_probs[row, :length], expected[row, :length], atol=1e-4, rtol=0)


def test_margin_belongs_to_no_row(graph: RecogniserGraph) -> None:
    waveform, lengths = example(2, 3001)
    (inside, frames), (bare, same) = graph(waveform, lengths), graph.model(waveform, lengths)
    assert frames.tolist() == same.tolist() == [5, 3]
    torch.testing.assert_close(inside[0, :5], bare[0, :5], atol=1e-5, rtol=0)


def test_padding_and_batch_mates_change_nothing(session: onnxruntime.InferenceSession) -> None:
    waveform, lengths = example(5, 7919)
    together, frames = run(session, waveform, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = run(session, waveform[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(together[row, : frames[row]], alone[0, : frames[row]], atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def explaining() -> ExplanationGraph:
    torch.manual_seed(3)
    return ExplanationGraph(recogniser(13, width=22, blocks=1, heads=1, span=5, channels=3, mels=19))


@pytest.fixture(scope="module")
def explained(explaining: ExplanationGraph, tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    return exported(explaining, EXPLAINED_OUTPUTS, tmp_path_factory.mktemp("graph") / "explanation.onnx")


@pytest.mark.parametrize(("batch", "samples"), [(1, 1), (2, 160), (1, 641), (3, 1601), (2, 13_500), (5, 16_001)])
def test_an_explanation_shares_out_every_real_frame(
    explained: onnxruntime.InferenceSession, explaining: ExplanationGraph, batch: int, samples: int
) -> None:
    waveform, lengths = example(batch, samples, seed=5)
    [attention] = run(explained, waveform, lengths)
    torch.testing.assert_close(attention, *explaining(waveform, lengths), atol=1e-5, rtol=0)
    for row, length in enumerate(lengths.tolist()):
        weights, [frames] = explaining.model.attention_weights(waveform[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(attention[row, :frames, :frames], rollout(weights)[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(attention[row, :frames].sum(1), torch.ones(int(frames)), atol=1e-5, rtol=0)
        assert not attention[row, frames:].any()
        assert not attention[row, :, frames:].any()
