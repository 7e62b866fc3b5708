import shutil
from pathlib import Path

import numpy as np
import pytest

from headwise.errors import InputError
from headwise.model_folder import ModelCard, read_card, writing
from headwise.serving.explanation import GRAPH, Explanation
from headwise.serving.problems import Refusal

ASKED = {"history": np.array([[5, 3, 0], [7, 2, 3]]), "lengths": np.array([2, 3])}
INPUTS = ("history", "lengths")


@pytest.fixture
def folder(recommender_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recommender_folder, tmp_path / "model"))


def test_the_graph_is_loaded_when_it_is_first_asked(folder: Path) -> None:
    explanation = Explanation(folder, read_card(folder), inputs=INPUTS)
    first = explanation.attention(**ASKED)
    np.testing.assert_allclose(first, [[1 / 3, 2 / 3, 0], [1 / 6, 2 / 6, 3 / 6]], rtol=1e-6)
    (folder / GRAPH).unlink()  # loaded it stays
    np.testing.assert_array_equal(explanation.attention(**ASKED), first)


def test_another_models_graph_does_not_explain_this_one(folder: Path) -> None:
    explanation, graph = Explanation(folder, read_card(folder), inputs=INPUTS), (folder / GRAPH).read_bytes()
    for change in (lambda: (folder / GRAPH).write_bytes(graph + b"\n"), (folder / GRAPH).unlink):
        change()
        with pytest.raises(
            Refusal, match="no longer that of the model which answers; start the server anew"
        ) as refused:
            explanation.attention(**ASKED)
        assert refused.value.status == 503


def test_a_folder_without_the_graph_is_refused_when_it_is_asked(folder: Path, tmp_path: Path) -> None:
    with writing(tmp_path / "old", ModelCard("recommender", "old", {}, {}, {}, {})):
        pass
    shutil.copy(folder / GRAPH, tmp_path / "old")  # what the card does not list is not the model's
    explanation = Explanation(tmp_path / "old", read_card(tmp_path / "old"), inputs=INPUTS)
    with pytest.raises(Refusal, match=r"exported without explanation\.onnx"):
        explanation.attention(**ASKED)


def test_a_graph_of_another_kind_is_named(folder: Path) -> None:
    explanation = Explanation(folder, read_card(folder), inputs=("waveform", "lengths"))
    with pytest.raises(InputError, match=r"its inputs are history, lengths; .* needs waveform, lengths"):
        explanation.attention(**ASKED)
