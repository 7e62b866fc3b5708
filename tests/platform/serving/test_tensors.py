import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from headwise.errors import InputError
from headwise.serving.tensors import DATATYPES, Asked, name_of, read, write

NUMBERS = st.sampled_from(sorted(DATATYPES)).flatmap(
    lambda name: arrays(DATATYPES[name], array_shapes(min_dims=0, max_dims=3, min_side=0), elements=FINITE.get(name))
)
FINITE = {f"FP{bits}": {"allow_nan": False, "allow_infinity": False} for bits in (16, 32, 64)}


def described(name, value, **more):
    return {"name": name, "shape": list(value.shape), "datatype": name_of(value.dtype), **more}


def request(*tensors, **more):
    return json.dumps({"inputs": list(tensors), **more}).encode()


def one(**changed):
    tensor = {"name": "a", "shape": [2, 3], "datatype": "INT64", "data": [1, 2, 3, 5, 7, 11]} | changed
    return request({key: value for key, value in tensor.items() if value is not None})


def test_a_request_by_hand():
    packed = np.array([0.5, -2.0], np.float32).tobytes()
    assert packed == b"\x00\x00\x00\x3f\x00\x00\x00\xc0"
    head = request(
        {"name": "a", "shape": [2, 1], "datatype": "INT8", "data": [[3], [-5]]},
        {"name": "b", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
        {"name": "k", "shape": [], "datatype": "INT64", "data": [7]},
        id="q7",
        outputs=[{"name": "y", "parameters": {"binary_data": True}}, {"name": "z"}],
    )
    asked = read(head + packed, str(len(head)))
    np.testing.assert_array_equal(asked.inputs["a"], np.array([[3], [-5]], np.int8))
    np.testing.assert_array_equal(asked.inputs["b"], np.array([0.5, -2.0], np.float32))
    assert asked.inputs["k"].shape == ()
    assert (asked.id, asked.outputs, asked.binary) == ("q7", ["y", "z"], frozenset({"y"}))
    answered = {"y": np.array([[1, 2]], np.int64), "z": np.array([1.5, -np.inf])}
    body, headers = write(asked, answered, model="m", version="3")
    length = int(headers["Inference-Header-Content-Length"])
    assert json.loads(body[:length]) == {
        "model_name": "m",
        "model_version": "3",
        "id": "q7",
        "outputs": [
            {"name": "y", "shape": [1, 2], "datatype": "INT64", "parameters": {"binary_data_size": 16}},
            {"name": "z", "shape": [2], "datatype": "FP64", "data": [1.5, None]},
        ],
    }
    assert body[length:] == np.array([1, 2], "<i8").tobytes()


@given(NUMBERS, st.booleans())
def test_what_is_sent_is_read_either_way(value, packed):
    more = {"parameters": {"binary_data_size": value.nbytes}} if packed else {"data": value.tolist()}
    if not packed and not value.ndim:
        more = {"data": [value.item()]}
    head = request(described("a", value, **more))
    body = head + value.tobytes() if packed else head
    found = read(body, str(len(head)) if packed else None).inputs["a"]
    assert found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)


@given(NUMBERS)
def test_what_is_answered_in_bytes_is_what_was_computed(value):
    body, headers = write(Asked("", {}, None, None), {"y": value}, model="m", version=None)
    assert body[int(headers["Inference-Header-Content-Length"]) :] == value.tobytes()


def test_bytes_are_sent_only_where_they_are_asked_for():
    assert read(one(), None).binary == frozenset()
    assert read(request(parameters={"binary_data_output": True}), None).binary is None
    wanted = [{"name": "y"}, {"name": "z", "parameters": {"binary_data": False}}]
    asked = read(request(outputs=wanted, parameters={"binary_data_output": True}), None)
    assert asked.binary == frozenset({"y"})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no inference request"),
        (b"[" * 100_000, "no inference request"),
        (b'{"inputs": 3}', r"Expected `array`, got `int` - at `\$.inputs`"),
        (one(datatype="BYTES"), "'BYTES' is none of BOOL, INT8"),
        (one(shape=[2, -3]), r"\[2, -3\] has a negative size"),
        (one(shape=[2, 4]), r"holds 6 numbers, shape \[2, 4\] needs 8"),
        (one(data=None), "neither a list in `data` nor a binary_data_size"),
        (one(data=[1, 2, 3, 5, 7, "11"]), "'11' is no INT64"),
        (one(data=[1, 2, 3, 5, 7, 0.5]), "0.5 is no INT64"),
        (one(data=[1, 2, 3, 5, 7, True]), "True is no INT64"),
        (one(data=[1, 2, 3, 5, 7, None]), "None is no INT64"),
        (one(data=[1, 2, 3, 5, 7, 2**63]), "out of the range of INT64"),
        (one(datatype="BOOL"), "1 is no BOOL"),
        (request(*[{"name": "a", "shape": [0], "datatype": "INT8", "data": []}] * 2), "'a' stands there twice"),
        (one(parameters={"binary_data_size": 48}), r"binary_data_size is 48; .* takes 48 bytes, and 0 follow"),
        (one(parameters={"binary_data_size": 1.5}), "binary_data_size is 1.5"),
        (one(parameters={"binary_data_size": -8}), "binary_data_size is -8"),
        (one(shape=[2**62, 2**62], parameters={"binary_data_size": 8}), "binary_data_size is 8"),
    ],
)
def test_what_does_not_fit_is_refused(body, message):
    with pytest.raises(InputError, match=message):
        read(body, None)


@pytest.mark.parametrize("header", ["-1", "1e3", "999", "", "٣"])
def test_a_header_must_be_a_length(header):
    with pytest.raises(InputError, match="the length of the JSON object is needed"):
        read(one(), header)


def test_bytes_that_belong_to_nothing_are_refused():
    with pytest.raises(InputError, match="3 bytes follow the last tensor"):
        read(one() + b"abc", str(len(one())))
