"""A live recogniser with random weights: what comes over the websocket is what the same model hears by itself."""

import json
import threading
from contextlib import asynccontextmanager

import numpy as np
import pytest
import torch
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from headwise.export import Graph, write
from headwise.serving.session import Session
from headwise_speech.decoding import Decoder
from headwise_speech.graph import StreamGraph, stream_shapes
from headwise_speech.live import PATH, Live
from headwise_speech.model import recogniser
from headwise_speech.rescoring import TwoPass
from headwise_speech.streaming import INPUTS, OUTPUTS, Endpointing, Streamer
from headwise_speech.text import BLANK, Vocabulary
from headwise_speech.transcription import Transcriber

VOCABULARY = Vocabulary((BLANK, " ", *"ABCDEFGHIJK"))
HOP = 0.04


@pytest.fixture(scope="module")
def streamer(tmp_path_factory):
    torch.manual_seed(3)
    sizes = {"width": 22, "blocks": 2, "heads": 1, "span": 5, "channels": 3, "mels": 19, "chunk": 3, "left": 7}
    model = recogniser(len(VOCABULARY), **sizes).eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    graph, path = StreamGraph(model), tmp_path_factory.mktemp("graph") / "stream.onnx"
    write(Graph(graph, dict(zip(INPUTS, graph.example(), strict=True)), OUTPUTS, stream_shapes()), path, {})
    return Streamer(Session(path, inputs=INPUTS, outputs=OUTPUTS), VOCABULARY, graph.form)


@pytest.fixture(scope="module")
def transcriber():
    return Transcriber(TwoPass(Decoder("greedy", VOCABULARY), None), hop=HOP, voice=False)


def serving(live):
    @asynccontextmanager
    async def lifespan(_):
        async with live.running():
            yield

    async def converse(socket):
        socket.state.request_id = "q-7"
        await live.socket.handler(socket)

    return TestClient(Starlette(routes=[WebSocketRoute(PATH, converse)], lifespan=lifespan))


@pytest.fixture(scope="module")
def client(streamer, transcriber):
    with serving(Live(streamer, transcriber)) as client:
        yield client


def noise(samples, seed=5):
    """Noise whose loudness and colour change ten times a second, so that different tokens are heard."""
    chance = np.random.default_rng(seed)
    loud = np.repeat(10 ** chance.uniform(0, 4.2, samples // 1600 + 1), 1600)[:samples]
    tone = np.sin(np.cumsum(np.repeat(chance.uniform(0.02, 2, samples // 1600 + 1), 1600)[:samples]))
    return (loud * (tone + chance.standard_normal(samples) / 3)).clip(-32768, 32767).astype("<i2")


def talk(client, pieces, query=""):
    """Everything that the server says to these pieces and the end."""
    said = []
    with client.websocket_connect(f"{PATH}{query}") as socket:
        for piece in pieces:
            socket.send_bytes(piece.tobytes())
        socket.send_text('{"type": "end"}')
        while not said or said[-1]["type"] not in ("end", "error"):
            said.append(json.loads(socket.receive_text()))
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    return said, closed.value.code


def by_itself(streamer, transcriber, samples):
    """Utterances as the stream and the decoder give them, without a server: text, start, end."""
    waveform, began, rows, found = samples.astype(np.float32) / 32768, 0, [], []
    stream = streamer.open(Endpointing())
    for heard in [*stream.feed(waveform), *stream.finish()]:
        rows.append(heard.log_probs)
        if heard.over:
            log_probs, rows = np.concatenate(rows), []
            spoken = waveform[began : began + len(log_probs) * 640]
            text, words, _ = transcriber.timed(spoken, log_probs)
            if text.text:
                times = words[0].start + began / 16_000, words[-1].end + began / 16_000
                found.append((text.text, *(pytest.approx(time, abs=1e-3) for time in times)))
            began += len(spoken)
    return found


def finals(said):
    return [(each["text"], each["start"], each["end"]) for each in said if each["type"] == "final"]


def test_utterances_are_those_of_the_stream_by_itself(client, streamer, transcriber):
    samples = noise(16_000 * 23)  # longer than an utterance may be
    said, code = talk(client, np.split(samples, [1999, 30_011, 30_012, 200_003]))
    assert code == 1000
    assert said[-1] == {"type": "end", "duration": 23.0}
    assert finals(said) == by_itself(streamer, transcriber, samples)
    assert len(finals(said)) == 2


def test_a_word_has_its_time_in_the_stream_and_its_confidence(client):
    said, _ = talk(client, [noise(16_000 * 23)])
    last = [each for each in said if each["type"] == "final"][-1]
    assert last["words"][0].keys() == {"word", "start", "end", "confidence"}
    assert " ".join(word["word"] for word in last["words"]) == last["text"]
    assert 20 <= last["start"] == last["words"][0]["start"] < last["words"][-1]["end"] == last["end"] <= 23


def test_an_utterance_is_told_while_it_is_said(client):
    with client.websocket_connect(PATH) as socket:
        socket.send_bytes(noise(16_000).tobytes())
        partial = json.loads(socket.receive_text())  # before the end is known
        socket.send_text('{"type": "end"}')
        said = [partial]
        while said[-1]["type"] != "end":
            said.append(json.loads(socket.receive_text()))
    assert partial.keys() == {"type", "text", "start"}
    assert (partial["type"], partial["start"]) == ("partial", 0.0)
    assert said[-2]["type"] == "final"
    assert said[-2]["text"].startswith(partial["text"])


@settings(deadline=None, max_examples=13)
@given(cuts=st.lists(st.integers(0, 16_000), max_size=7))
def test_it_does_not_matter_how_samples_are_cut(client, cuts):
    samples = noise(16_000, seed=7)
    assert finals(talk(client, np.split(samples, sorted(cuts)))[0]) == finals(talk(client, [samples])[0])


@pytest.mark.parametrize("rate", [8000, 22_050, 48_000])
def test_other_rates_are_resampled(client, rate):
    said, _ = talk(client, [noise(rate)[:101], noise(rate)[101:]], f"?rate={rate}")
    assert said[-1]["duration"] == pytest.approx(1.0, abs=1e-3)
    assert finals(said)


def test_nothing_said_is_answered_with_nothing(client):
    assert talk(client, [])[0] == [{"type": "end", "duration": 0.0}]


def test_streams_do_not_hear_each_other(client):
    alone = [finals(talk(client, [noise(9973, seed)])[0]) for seed in (2, 3)]
    with client.websocket_connect(PATH) as one, client.websocket_connect(PATH) as two:
        for socket, seed in ((one, 2), (two, 3)):
            for piece in np.split(noise(9973, seed), [4001]):
                socket.send_bytes(piece.tobytes())
        together = []
        for socket in (two, one):
            socket.send_text('{"type":"end"}')
            said = [json.loads(socket.receive_text())]
            while said[-1]["type"] != "end":
                said.append(json.loads(socket.receive_text()))
            together.append(finals(said))
    assert together == alone[::-1]


@pytest.mark.parametrize(
    ("query", "message", "detail"),
    [
        ("?rate=7999", b"", "rate is '7999'; samples a second, from 8000 to 48000"),
        ("?rate=many", b"", "rate is 'many'"),
        ("", b"abc", "a message of 3 bytes: 16-bit samples are two bytes each"),
        ("", "stop", 'a text message that is not {"type": "end"}'),
        ("", '{"type": "partial"}', 'a text message that is not {"type": "end"}'),
    ],
)
def test_what_is_no_stream_is_told_and_closed(client, query, message, detail):
    with client.websocket_connect(f"{PATH}{query}") as socket:
        (socket.send_bytes if isinstance(message, bytes) else socket.send_text)(message)
        said = json.loads(socket.receive_text())
        assert said["type"] == "error"
        assert said["detail"].startswith(detail)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 1008


def test_who_says_nothing_is_left(streamer, transcriber):
    with serving(Live(streamer, transcriber, idle=0.01)) as client, client.websocket_connect(PATH) as socket:
        assert json.loads(socket.receive_text())["detail"].startswith("nothing came for 0.01 s")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 1001


def test_who_leaves_takes_nobody_along(client):
    for _ in range(3):
        with client.websocket_connect(PATH) as socket:
            socket.send_bytes(noise(16_000).tobytes())
    assert finals(talk(client, [noise(9973)])[0])


def test_a_failure_of_ours_is_logged_and_says_nothing_of_itself(streamer, transcriber, monkeypatch, caplog):
    def broken(*_, **__):
        raise ZeroDivisionError("secret")

    live = Live(streamer, transcriber)
    with serving(live) as client:
        monkeypatch.setattr(type(transcriber), "timed", broken)
        said, code = talk(client, [noise(9973)])
    assert (said[-1]["type"], code) == ("error", 1011)
    assert said[-1]["detail"] == "an error of ours; the server's log has it under q-7"
    assert "secret" in caplog.text


def test_the_websockets_library_over_a_real_connection(streamer, transcriber):
    websockets = pytest.importorskip("websockets.sync.client", reason="websockets is not installed")
    server = uvicorn.Server(uvicorn.Config(serving(Live(streamer, transcriber)).app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    samples = noise(16_000)
    with websockets.connect(f"ws://127.0.0.1:{port}{PATH}?rate=16000") as socket:
        for start in range(0, len(samples), 1600):
            socket.send(samples[start : start + 1600].tobytes())
        socket.send('{"type": "end"}')
        said = [json.loads(message) for message in socket]
    server.should_exit = True
    thread.join()
    assert said[-1] == {"type": "end", "duration": 1.0}
    assert finals(said) == by_itself(streamer, transcriber, samples)
