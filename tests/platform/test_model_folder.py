import json
from dataclasses import replace

import pytest

from headwise.errors import InputError, NotFound
from headwise.model_folder import CARD, FORMAT, ModelCard, read_card, writing

GRAPH = b"thirteen byte"


@pytest.fixture
def card():
    settings, provenance = {"window": 7, "max_k": 5}, {"run_id": "r1", "name": "Zoë"}
    return ModelCard("recommender", "ml-1m", settings, provenance, {"ndcg@10": 0.17}, {"max_difference": 3e-7})


@pytest.fixture
def folder(tmp_path, card):
    with writing(tmp_path / "model", card) as draft:
        (draft / "recommender.onnx").write_bytes(GRAPH)
        (draft / "items.json").write_text("[3, 5]")
    return tmp_path / "model"


def change(folder, **fields):
    path = folder / CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_what_was_written_is_read(folder, card):
    read = read_card(folder)
    assert replace(read, files={}) == card
    assert read.format == FORMAT
    assert {name: facts["bytes"] for name, facts in read.files.items()} == {"items.json": 6, "recommender.onnx": 13}
    assert read.files["items.json"]["sha256"] == "c009b8af98ea96ee88d335471a0613da6613b965897238a92c656f30cb4ae386"


def test_the_card_can_be_read_by_people(folder):
    text = (folder / CARD).read_text(encoding="utf-8")
    assert '"name": "Zoë"' in text
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_a_failure_leaves_the_old_model(folder, card):
    with pytest.raises(ZeroDivisionError), writing(folder, card) as draft:  # noqa: PT012
        (draft / "recommender.onnx").write_bytes(b"half")
        raise ZeroDivisionError
    assert (folder / "recommender.onnx").read_bytes() == GRAPH
    assert read_card(folder).files.keys() == {"items.json", "recommender.onnx"}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_new_model_replaces_the_old_one_whole(folder, card):
    with writing(folder, card) as draft:
        (draft / "recogniser.onnx").write_bytes(GRAPH)
    assert sorted(path.name for path in folder.iterdir()) == [CARD, "recogniser.onnx"]


def test_a_changed_byte_is_found_where_asked_for(folder):
    (folder / "recommender.onnx").write_bytes(b"thirteen BYTE")
    read_card(folder, verify=False)
    with pytest.raises(InputError) as error:
        read_card(folder)
    path = folder / "recommender.onnx"
    vouched = "its bytes are not those that model.json vouches for; export or fetch the model again"
    assert str(error.value) == f"{path}: {vouched}"


@pytest.mark.parametrize("verify", [True, False])
def test_a_cut_file_is_found_always(folder, verify):
    (folder / "recommender.onnx").write_bytes(GRAPH[:7])
    with pytest.raises(
        InputError, match=r"recommender\.onnx: 7 bytes, model\.json says 13; export or fetch the model again"
    ):
        read_card(folder, verify=verify)


def test_a_missing_file_is_named(folder):
    (folder / "items.json").unlink()
    with pytest.raises(InputError) as error:
        read_card(folder)
    assert str(error.value) == f"{folder}: items.json is missing; export or fetch the model again"


@pytest.mark.parametrize("name", ["../outside.json", "/outside.json", "deep/inside.json"])
def test_a_card_cannot_point_outside(folder, name):
    change(folder, files={name: {"bytes": 3, "sha256": "0"}})
    with pytest.raises(InputError, match="which is outside the folder"):
        read_card(folder)


def test_a_folder_without_a_card_is_no_model(tmp_path):
    with pytest.raises(NotFound) as error:
        read_card(tmp_path)
    assert "not a model folder, it has no model.json; make one with `headwise export RUN --out DIR`" in str(error.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"kind": "recommender", "surprise": 1}', "null", '"\\xff'])
def test_a_broken_card_is_named(folder, text):
    (folder / CARD).write_text(text)
    with pytest.raises(InputError, match=r"model.json: cannot be read \(.+\); export the model again"):
        read_card(folder)


def test_another_format_is_named(folder):
    change(folder, format=7)
    with pytest.raises(
        InputError, match=r"model\.json: format 7, this version of headwise reads 1; export the model again"
    ):
        read_card(folder)
