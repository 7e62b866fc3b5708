import onnxruntime
import pytest
import torch

from headwise.export import Graph, write
from headwise_speech.graph import StreamGraph, stream_shapes
from headwise_speech.model import recogniser
from headwise_speech.streaming import INPUTS, OUTPUTS


@pytest.fixture(scope="module")
def graph() -> StreamGraph:
    torch.manual_seed(3)
    model = recogniser(13, width=22, blocks=2, heads=1, span=5, channels=3, mels=19, chunk=3, left=7)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return StreamGraph(model)


@pytest.fixture(scope="module")
def session(graph: StreamGraph, tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    path = tmp_path_factory.mktemp("graph") / "stream.onnx"
    inputs = dict(zip(INPUTS, graph.example(), strict=True))
    write(Graph(graph, inputs, OUTPUTS, stream_shapes()), path, {})
    return onnxruntime.InferenceSession(path)


def streams(graph: StreamGraph, batch: int) -> tuple[torch.Tensor, ...]:
    """In chunks of their own: the first has just begun, the last comes to its end; all remember something."""
    generator = torch.Generator().manual_seed(batch)
    waveform, lengths, _, *memory = graph.example(batch)
    noise = [0.5 * torch.randn(part.shape, generator=generator) for part in memory]
    return waveform, lengths, 3 * torch.arange(batch), *noise


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_onnx_equals_torch(session: onnxruntime.InferenceSession, graph: StreamGraph, batch: int) -> None:
    inputs = streams(graph, batch)
    answers = session.run(None, {name: part.numpy() for name, part in zip(INPUTS, inputs, strict=True)})
    for answer, expected in zip(map(torch.from_numpy, answers), graph(*inputs), strict=True):
        torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-5)


def test_other_streams_change_nothing(graph: StreamGraph) -> None:
    inputs = streams(graph, 5)
    together = graph(*inputs)
    for row in range(5):
        for all_rows, alone in zip(together, graph(*(part[row : row + 1] for part in inputs)), strict=True):
            torch.testing.assert_close(all_rows[row : row + 1], alone, atol=1e-5, rtol=1e-5)


def test_what_it_remembers_keeps_its_size(graph: StreamGraph) -> None:
    memory = graph.memory(2)
    assert [tuple(part.shape) for part in memory] == [(2, 2, 1, 7, 22), (2, 2, 1, 7, 22), (2, 2, 2, 22)]
    after = graph(*graph.example())[2:]
    assert [part.shape for part in after] == [part.shape for part in memory]
    assert graph.form.memory == [list(part.shape[1:]) for part in memory]


def test_slots_before_the_beginning_are_not_seen(graph: StreamGraph) -> None:
    waveform, lengths, start, *_ = graph.example()
    nothing, noise = graph.memory(2), streams(graph, 2)[3:5]
    first = torch.zeros_like(start)
    empty = graph(waveform, lengths, first, *nothing)
    filled = graph(waveform, lengths, first, *noise, nothing[2])
    torch.testing.assert_close(filled[0], empty[0])


def test_a_recogniser_of_whole_utterances_says_so() -> None:
    with pytest.raises(ValueError, match="this recogniser hears whole utterances alone; build it with chunk=12 or so"):
        StreamGraph(recogniser(13, width=22, blocks=1, heads=1, span=5, channels=3, mels=19))
