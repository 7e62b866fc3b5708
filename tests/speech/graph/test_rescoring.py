import onnxruntime
import pytest
import torch

from headwise.export import Graph, write
from headwise_speech.graph import RescoringGraph, rescoring_example, rescoring_shapes
from headwise_speech.model import Recogniser, recogniser
from headwise_speech.rescoring import INPUTS, OUTPUTS

VOCAB, WIDTH = 13, 22


@pytest.fixture(scope="module")
def model() -> Recogniser:
    torch.manual_seed(3)
    return recogniser(VOCAB, width=WIDTH, blocks=1, heads=1, span=5, channels=3, mels=19, decoder_blocks=2)


@pytest.fixture(scope="module")
def session(model: Recogniser, tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    path = tmp_path_factory.mktemp("graph") / "rescore.onnx"
    inputs = dict(zip(INPUTS, rescoring_example(WIDTH, VOCAB), strict=True))
    write(Graph(RescoringGraph(model), inputs, OUTPUTS, rescoring_shapes()), path, {})
    return onnxruntime.InferenceSession(path)


def utterance(time: int, *transcripts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(t, dtype=torch.long) for t in transcripts], batch_first=True)
    return torch.randn(time, WIDTH, generator=torch.Generator().manual_seed(time)), tokens


def test_a_score_is_the_product_of_the_probabilities_of_the_tokens_and_the_end(model: Recogniser) -> None:
    encoded, tokens = utterance(17, [3, 5], [2, 7, 11])
    [scores] = RescoringGraph(model)(encoded, tokens)
    log_probs = model.transcribed(encoded[None], torch.tensor([17]), torch.tensor([[3, 5]]))[0]
    assert float(scores[0]) == pytest.approx(float(log_probs[0, 3] + log_probs[1, 5] + log_probs[2, 0]), abs=1e-5)


@pytest.mark.parametrize("time", [1, 2, 11, 17, 97])
@pytest.mark.parametrize("transcripts", [([3],), ([0],), ([3, 5], [7]), ([3, 5, 2, 2, 7, 11, 4], [], [1])], ids=repr)
def test_onnx_equals_torch(
    session: onnxruntime.InferenceSession, model: Recogniser, time: int, transcripts: tuple[list[int], ...]
) -> None:
    encoded, tokens = utterance(time, *transcripts)
    [scores] = session.run(None, {"encoded": encoded.numpy(), "tokens": tokens.numpy()})
    torch.testing.assert_close(torch.from_numpy(scores), RescoringGraph(model)(encoded, tokens)[0], atol=1e-4, rtol=0)


def test_other_candidates_change_nothing(session: onnxruntime.InferenceSession) -> None:
    encoded, tokens = utterance(17, [3, 5], [2, 7, 11])
    [together] = session.run(None, {"encoded": encoded.numpy(), "tokens": tokens.numpy()})
    [alone] = session.run(None, {"encoded": encoded.numpy(), "tokens": tokens[:1, :2].numpy()})
    assert together[0] == pytest.approx(alone[0], abs=1e-5)
