from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from headwise.errors import InputError
from headwise.examples import FILE, Examples

GRAPH = Path("toy.onnx")
ASKED = {"history": np.array([[1, 2, 3], [5, 7, 0]]), "k": np.array(2)}
ANSWERED = {"items": np.array([[4, 6], [1, 2]]), "scores": np.array([[0.5, 0.25], [3.0, -np.inf]], np.float32)}


def answering(**changed):
    def run(**asked):
        assert asked.keys() == ASKED.keys()
        return [changed.get(name, value) for name, value in ANSWERED.items()]

    return run


@given(arrays(np.float32, array_shapes(max_dims=3), elements=st.floats(-9, 9, width=32)))
def test_what_is_saved_is_loaded(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("model")
    Examples({"a": values, "k": np.array(3)}, {"b": values}).save(folder)
    kept = Examples.load(folder)
    np.testing.assert_array_equal(kept.asked["a"], values)
    assert kept.asked["k"] == 3
    assert kept.answered["b"].dtype == np.float32
    assert list(kept.answered) == ["b"]


def test_a_folder_of_an_earlier_version_has_none(tmp_path):
    assert Examples.load(tmp_path) is None


def test_a_graph_that_answers_as_it_did_passes():
    examples = Examples(ASKED, ANSWERED)
    examples.check(answering(), list(ANSWERED), GRAPH)
    # Processors add up in different orders.
    examples.check(answering(scores=ANSWERED["scores"] + 1e-5), list(ANSWERED), GRAPH)


@pytest.mark.parametrize(
    "changed",
    [
        ANSWERED["scores"] + np.float32(0.01),
        np.full((2, 2), np.nan, np.float32),
        ANSWERED["scores"][:1],
        np.abs(ANSWERED["scores"]),
    ],
)
def test_another_answer_is_refused(changed):
    with pytest.raises(InputError, match=r"toy.onnx: its scores for the example of examples.npz are not those"):
        Examples(ASKED, ANSWERED).check(answering(scores=changed), list(ANSWERED), GRAPH)


def test_a_graph_that_cannot_be_asked_is_refused():
    def broken(**_):
        raise RuntimeError("no such node")

    with pytest.raises(InputError, match=r"toy.onnx: cannot answer the example .*no such node"):
        Examples(ASKED, ANSWERED).check(broken, list(ANSWERED), GRAPH)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(InputError, match=r"examples.npz: cannot be read"):
        Examples.load(tmp_path)


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / FILE, **{"asked.a": np.array([print], object)})
    with pytest.raises(InputError, match="cannot be read"):
        Examples.load(tmp_path)
