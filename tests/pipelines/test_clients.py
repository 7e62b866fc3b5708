"""Our server by clients that others wrote: OpenAI's for transcriptions, Triton's for tensors."""

import io
import threading

import numpy as np
import pytest
import soundfile
import uvicorn

from headwise.serving.app import create_app
from headwise_recsys import service as recommender
from headwise_speech import service as recogniser


@pytest.fixture(scope="module")
def address(recommender_folder, recogniser_folder):
    app = create_app([recommender.load(recommender_folder, version="7"), recogniser.load(recogniser_folder)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


# The amplitude that the hand-made recogniser hears as each character, a tenth of a second each.
LEVELS = {"_": 0.0, " ": 0.2, "A": 0.4, "B": 0.6, "C": 0.8}


def recording(text):
    file = io.BytesIO()
    file.name = "said.wav"
    soundfile.write(file, np.repeat([LEVELS[token] for token in text], 1600), 16_000, format="WAV")
    file.seek(0)
    return file


@pytest.fixture(scope="module")
def openai_client(address):
    openai = pytest.importorskip("openai", reason="openai is not installed")
    with openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openai_s_client_is_told_the_text(openai_client):
    heard = openai_client.audio.transcriptions.create(model="recogniser", file=recording("_AB_ _C_"))
    assert heard.text == "AB C"


def test_openai_s_client_is_told_words_and_segments(openai_client):
    heard = openai_client.audio.transcriptions.create(
        model="recogniser",
        file=recording("_AB_ _C_"),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert heard.duration == 0.8
    assert heard.text == heard.segments[0].text == "AB C"
    assert [word.word for word in heard.words] == ["AB", "C"]
    assert [(word.start, word.end) for word in heard.words] == [(0.1, 0.3), (0.6, 0.7)]


def test_openai_s_client_is_given_subtitles(openai_client):
    create = openai_client.audio.transcriptions.create
    texts = {
        kind: create(model="recogniser", file=recording("_AB_ _C_"), response_format=kind)
        for kind in ("text", "srt", "vtt")
    }
    assert texts["text"].strip() == "AB C"
    assert texts["srt"].startswith("1\n00:00:00,")
    assert texts["vtt"].startswith("WEBVTT\n\n00:00")
    assert all("AB C" in text for text in texts.values())


def test_openai_s_client_lists_the_models(openai_client):
    assert [model.id for model in openai_client.models.list()] == ["recommender", "recogniser"]


@pytest.mark.parametrize(
    ("asked", "status", "detail"),
    [
        ({"model": "whisper-1"}, 404, "there is no model 'whisper-1' here"),
        ({"response_format": "docx"}, 422, "response_format is 'docx'"),
        ({"file": ("said.wav", b"no audio")}, 415, "said.wav"),
    ],
)
def test_openai_s_client_is_told_what_is_wrong(openai_client, asked, status, detail):
    import openai

    with pytest.raises(openai.APIStatusError, match=detail) as told:
        openai_client.audio.transcriptions.create(**{"model": "recogniser", "file": recording("A")} | asked)
    assert told.value.status_code == status


@pytest.fixture(scope="module")
def triton(address):
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    with http.InferenceServerClient(address) as client:
        yield http, client


def inputs(http, packed=True, **values):
    made = []
    for name, value in values.items():
        value = np.asarray(value, np.int64)
        made.append(http.InferInput(name, value.shape, "INT64"))
        made[-1].set_data_from_numpy(value, binary_data=packed)
    return made


HISTORIES = {
    "history": [[1, 2, 3], [5, 0, 0]],
    "lengths": [3, 1],
    "k": 2,
    "exclude": [[0], [6]],
    "allow": [[0], [0]],
}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("version", ["", "7"])
def test_triton_s_client_asks_a_graph(triton, packed, version):
    http, client = triton
    wanted = [http.InferRequestedOutput(name, binary_data=packed) for name in ("items", "scores")]
    answer = client.infer("recommender", inputs(http, packed, **HISTORIES), version, outputs=wanted, request_id="q-11")
    assert answer.get_response()["id"] == "q-11"
    np.testing.assert_array_equal(answer.as_numpy("items"), [[4, 5], [7, 8]])
    np.testing.assert_allclose(answer.as_numpy("scores"), [[1, 1 / 2], [1 / 2, 1 / 3]])


def test_triton_s_client_asks_about_the_server(triton):
    _, client = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("recommender", "7")
    assert not client.is_model_ready("recommender", "8")
    assert client.get_server_metadata()["name"] == "headwise"
    assert client.get_model_metadata("recogniser")["inputs"][0]["name"] == "waveform"


def test_triton_s_client_is_told_what_is_wrong(triton):
    http, client = triton
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match="the graph refuses these inputs"):
        client.infer("recommender", inputs(http, **HISTORIES | {"k": 10_000}))


def test_triton_s_client_sends_a_waveform(triton):
    http, client = triton
    waveform = http.InferInput("waveform", [1, 1600], "FP32")
    waveform.set_data_from_numpy(np.full((1, 1600), 0.4, np.float32))
    answer = client.infer("recogniser", [waveform, *inputs(http, lengths=[1600])])
    assert answer.as_numpy("log_probs").shape[:2] == (1, 1)
    assert answer.as_numpy("frames").tolist() == [1]
