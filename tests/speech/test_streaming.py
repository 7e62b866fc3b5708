import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.export import Graph, write
from headwise.serving.session import Session
from headwise_speech.graph import StreamGraph, stream_shapes
from headwise_speech.model import Recogniser, recogniser
from headwise_speech.streaming import INPUTS, OUTPUTS, Endpointing, Heard, Stream, Streamer
from headwise_speech.text import BLANK, Vocabulary

VOCABULARY = Vocabulary((BLANK, " ", *"ABCDEFGHIJK"))


@pytest.fixture(scope="module")
def model() -> Recogniser:
    torch.manual_seed(3)
    sizes = {"width": 22, "blocks": 2, "heads": 1, "span": 5, "channels": 3, "mels": 19, "chunk": 3, "left": 7}
    built = recogniser(len(VOCABULARY), **sizes)  # type: ignore[arg-type]
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return built.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def streamer(model: Recogniser, tmp_path_factory: pytest.TempPathFactory) -> Streamer:
    graph, path = StreamGraph(model), tmp_path_factory.mktemp("graph") / "stream.onnx"
    write(Graph(graph, dict(zip(INPUTS, graph.example(), strict=True)), OUTPUTS, stream_shapes()), path, {})
    return Streamer(Session(path, inputs=INPUTS, outputs=OUTPUTS), VOCABULARY, graph.form)


def noise(samples: int, seed: int = 5) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def offline(model: Recogniser, waveform: np.ndarray) -> np.ndarray:
    batch, lengths = torch.from_numpy(waveform)[None], torch.tensor([len(waveform)])
    return model.log_probs(*model.front_end(batch, lengths), model.streaming)[0][0].numpy()


def together(heard: list[Heard]) -> np.ndarray:
    return np.concatenate([piece.log_probs for piece in heard])


@settings(deadline=None, max_examples=40)
@given(pieces=st.lists(st.integers(0, 4001), max_size=9))
def test_any_pieces_equal_the_whole_under_the_mask(model: Recogniser, streamer: Streamer, pieces: list[int]) -> None:
    waveform, stream, heard = noise(sum(pieces)), streamer.open(), []
    for piece, end in zip(pieces, np.cumsum(pieces), strict=True):
        heard += stream.feed(waveform[end - piece : end])
    heard += stream.finish()
    np.testing.assert_allclose(together(heard), offline(model, waveform), atol=1e-5)
    assert [piece.over for piece in heard] == [False] * (len(heard) - 1) + [True]


def test_the_text_is_that_of_the_whole(model: Recogniser, streamer: Streamer) -> None:
    waveform = noise(20_011)
    [*first, last] = [*(stream := streamer.open()).feed(waveform), *stream.finish()]
    tokens = offline(model, waveform).argmax(1)
    changed = np.flatnonzero(np.diff(tokens, prepend=0))
    assert last.text == VOCABULARY.decode(tokens[changed].tolist())
    assert all(last.text.startswith(piece.text) for piece in first)


def test_streams_advance_together_as_alone(streamer: Streamer) -> None:
    streams, waveforms = [streamer.open() for _ in range(3)], [noise(n, seed=n) for n in (9973, 641, 5003)]
    heard: list[list[Heard]] = [[], [], []]
    heard[0] += streams[0].feed(waveforms[0][:4001])  # begins before the others
    for stream, rest in zip(streams, (waveforms[0][4001:], *waveforms[1:]), strict=True):
        stream.push(rest)
        stream.end()
    while ready := [number for number, stream in enumerate(streams) if stream.ready]:
        for number, piece in zip(ready, streamer.advance([streams[number] for number in ready]), strict=True):
            heard[number].append(piece)
    for waveform, pieces in zip(waveforms, heard, strict=True):
        alone = streamer.open()
        np.testing.assert_allclose(together(pieces), together(alone.feed(waveform) + alone.finish()), atol=1e-5)


def test_what_a_stream_holds_does_not_grow(streamer: Streamer) -> None:
    def held(stream: Stream) -> int:
        return sum(part.nbytes for part in (*stream._memory, stream._waiting))

    stream, sizes = streamer.open(Endpointing(after_speech=3, after_nothing=5, longest=50)), []
    for number in range(40):
        stream.feed(noise(1920, seed=number))
        sizes.append(held(stream))
    assert max(sizes) <= sizes[0] + 1920 * 4
    assert len(stream._tokens) <= 50


def test_an_utterance_that_is_over_is_followed_by_one_that_knows_nothing_of_it(streamer: Streamer) -> None:
    waveform, stream = noise(20_011), streamer.open(Endpointing(longest=6))
    heard = stream.feed(waveform) + stream.finish()
    ends = [number for number, piece in enumerate(heard) if piece.over]
    assert ends[:2] == [1, 3]  # two chunks of three frames
    alone = streamer.open()
    second = alone.feed(waveform[2 * 1920 :])
    np.testing.assert_allclose(together(heard[2:4]), together(second[:2]), atol=1e-5)
    assert heard[2].text == second[0].text


def test_when_an_utterance_is_over_by_hand() -> None:
    rule = Endpointing(after_speech=3, after_nothing=5, longest=11)
    assert [rule.over(True, silent, 7) for silent in (2, 3)] == [False, True]
    assert [rule.over(False, silent, 7) for silent in (4, 5)] == [False, True]
    assert [rule.over(True, 0, frames) for frames in (10, 11)] == [False, True]


def test_a_stream_that_has_ended_takes_no_more(streamer: Streamer) -> None:
    stream = streamer.open()
    stream.finish()
    assert stream.finish() == []
    with pytest.raises(InputError, match="the stream has ended; open another for more samples"):
        stream.feed(noise(7))


@pytest.mark.parametrize("samples", [np.zeros((2, 7), np.float32), np.array([0.1, np.nan])])
def test_samples_are_one_row_of_numbers(streamer: Streamer, samples: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"one row of finite numbers within -1\.\.1 is needed"):
        streamer.open().feed(samples)
