"""Our server by clients that others wrote: Triton's for tensors."""

import threading

import numpy as np
import pytest
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
