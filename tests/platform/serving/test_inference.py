"""The Open Inference Protocol over the two products' own graphs, and by the client that Triton's makers wrote."""

import json

import numpy as np
import pytest

from headwise.serving.app import create_app
from headwise_recsys import service as recommender

INFER = "/v2/models/recommender/infer"


@pytest.fixture(name="client", scope="module")
def client_fixture(talking_to, recommender_folder):
    with talking_to(create_app([recommender.load(recommender_folder, version="7")])) as client:
        yield client


def tensor(name, value, **more):
    value = np.asarray(value, np.int64)
    return {"name": name, "shape": list(value.shape), "datatype": "INT64", "data": value.ravel().tolist()} | more


def asked(history=((1, 2, 3), (5, 0, 0)), lengths=(3, 1), k=2, exclude=((0,), (6,)), allow=((0,), (0,)), **more):
    values = {"history": history, "lengths": lengths, "k": k, "exclude": exclude, "allow": allow}
    return {"inputs": [tensor(name, value) for name, value in values.items()], **more}


def test_a_graph_tells_what_it_takes_and_gives(client):
    facts = client.get("/v2/models/recommender").json()
    assert (facts["name"], facts["versions"], facts["platform"]) == ("recommender", ["7"], "onnxruntime_onnx")
    shapes = {each["name"]: (each["datatype"], each["shape"]) for each in facts["inputs"]}
    assert shapes["history"] == ("INT64", [-1, -1])
    assert shapes["k"] == ("INT64", [])
    assert {each["name"] for each in facts["outputs"]} == {"items", "scores"}
    assert client.get("/v2/models/recommender/versions/7").json() == facts


def test_the_server_is_asked_as_triton_is(client):
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for path in ("/v2/models/recommender/ready", "/v2/models/recommender/versions/7/ready"):
        assert client.get(path).json() == {"name": "recommender", "ready": True}


@pytest.mark.parametrize("path", [INFER, "/v2/models/recommender/versions/7/infer"])
def test_tensors_in_and_out(client, path):
    # After item n the next ones follow in the order of the catalogue; item 6 is excluded for the second row.
    answer = client.post(path, json=asked(id="mine"))
    assert answer.status_code == 200, answer.text
    message = answer.json()
    assert (message["model_name"], message["model_version"], message["id"]) == ("recommender", "7", "mine")
    outputs = {each["name"]: each for each in message["outputs"]}
    assert outputs["items"] | {"data": [4, 5, 7, 8]} == outputs["items"]
    assert outputs["scores"]["shape"] == [2, 2]
    assert outputs["scores"]["data"] == pytest.approx([1, 1 / 2, 1 / 2, 1 / 3])


def test_only_the_outputs_that_are_wanted_come(client):
    message = client.post(INFER, json=asked(outputs=[{"name": "scores"}])).json()
    assert [each["name"] for each in message["outputs"]] == ["scores"]


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        ({"outputs": [{"name": "attention"}]}, "there is no 'attention'; there are items, scores"),
        ({"history": ((1, 2, 3, 4, 5, 6),) * 2}, "history: shape is [2, 6]; [b, t] is needed, sizes from 1 to [32, 5]"),
        ({"lengths": (3, 1, 2)}, "lengths: shape is [3]; [b] is needed"),
        ({"history": ((), ()), "lengths": (0, 0)}, "history: shape is [2, 0]"),
        ({"history": (1, 2, 3)}, "history: INT64 of 1 dimensions, INT64 of 2 is needed"),
        ({"history": ((1, 2, 99), (5, 0, 0))}, "the graph refuses these inputs"),
        ({"k": 10_000}, "the graph refuses these inputs"),
    ],
)
def test_what_the_graph_cannot_take_is_refused(client, changed, detail):
    answer = client.post(INFER, json=asked(**changed))
    assert answer.status_code == 422, answer.text
    assert detail in answer.json()["detail"]
    assert answer.json()["error"] == answer.json()["detail"]  # where the protocol's clients look


def test_inputs_of_another_type_or_name_are_refused(client):
    message = asked()
    message["inputs"][0]["datatype"] = "INT32"
    assert "history: INT32 of 2 dimensions, INT64 of 2 is needed" in client.post(INFER, json=message).json()["error"]
    del message["inputs"][0]
    assert "history, lengths" in client.post(INFER, json=message).json()["error"]


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/v2/models/nosuch", "no model nosuch is served here; there are: recommender (version 7)"),
        ("/v2/models/recommender/versions/8", "no model recommender, version 8, is served here"),
    ],
)
def test_what_is_not_served_is_answered_with_what_is(client, path, detail):
    assert detail in client.get(path).json()["error"]
    assert client.get(f"{path}/ready").status_code == 404
    assert client.post(f"{path}/infer", json=asked()).status_code == 404


def test_an_encoded_body_is_refused(client):
    answer = client.post(INFER, content=b"x", headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]) == (415, "the body is encoded as 'gzip'; send it as it is")


def test_bytes_in_and_out(client):
    message = asked(parameters={"binary_data_output": True})
    history = np.array([[1, 2, 3], [5, 0, 0]], np.int64)
    message["inputs"][0] = {
        "name": "history",
        "shape": [2, 3],
        "datatype": "INT64",
        "parameters": {"binary_data_size": history.nbytes},
    }
    head = json.dumps(message).encode()
    headers = {"inference-header-content-length": str(len(head))}
    answer = client.post(INFER, content=head + history.tobytes(), headers=headers)
    length = int(answer.headers["inference-header-content-length"])
    items, scores = json.loads(answer.content[:length])["outputs"]
    assert (items["parameters"], scores["parameters"]) == ({"binary_data_size": 32}, {"binary_data_size": 16})
    np.testing.assert_array_equal(np.frombuffer(answer.content[length:][:32], np.int64), [4, 5, 7, 8])
