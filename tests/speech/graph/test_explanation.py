import onnxruntime
import pytest
import torch

from headwise.export import Graph, write
from headwise.transformer import rollout
from headwise_speech.graph import EXPLAINED_OUTPUTS, INPUTS, ExplanationGraph, dynamic_shapes, example
from headwise_speech.model import recogniser


@pytest.fixture(scope="module")
def explaining() -> ExplanationGraph:
    torch.manual_seed(3)
    return ExplanationGraph(recogniser(13, width=22, blocks=1, heads=1, span=5, channels=3, mels=19))


@pytest.fixture(scope="module")
def explained(explaining: ExplanationGraph, tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    path = tmp_path_factory.mktemp("graph") / "explanation.onnx"
    write(Graph(explaining, dict(zip(INPUTS, example(), strict=True)), EXPLAINED_OUTPUTS, dynamic_shapes()), path, {})
    return onnxruntime.InferenceSession(path)


@pytest.mark.parametrize(("batch", "samples"), [(1, 1), (2, 160), (1, 641), (3, 1601), (2, 13_500), (5, 16_001)])
def test_an_explanation_shares_out_every_real_frame(
    explained: onnxruntime.InferenceSession, explaining: ExplanationGraph, batch: int, samples: int
) -> None:
    waveform, lengths = example(batch, samples, seed=5)
    [attention] = explained.run(None, {"waveform": waveform.numpy(), "lengths": lengths.numpy()})
    attention = torch.from_numpy(attention)
    torch.testing.assert_close(attention, *explaining(waveform, lengths), atol=1e-5, rtol=0)
    for row, length in enumerate(lengths.tolist()):
        weights, [frames] = explaining.model.attention_weights(waveform[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(attention[row, :frames, :frames], rollout(weights)[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(attention[row, :frames].sum(1), torch.ones(int(frames)), atol=1e-5, rtol=0)
        assert not attention[row, frames:].any()
        assert not attention[row, :, frames:].any()
