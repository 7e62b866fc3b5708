"""After 103 come 107, 109, 113, 127, 131, 137, 139, scored 1, 1/2, 1/3 ...; the first three are lamps and all alike."""

import json
import shutil

import numpy as np
import pytest

from headwise.errors import InputError
from headwise.model_folder import read_card, writing
from headwise.serving.app import create_app
from headwise_recsys.likeness import CATEGORIES, VECTORS
from headwise_recsys.service import PATH, load

KINDS = {107: "lamp", 109: "lamp", 113: "lamp", 127: "desk", 131: "desk"}


@pytest.fixture(scope="module")
def folder(recommender_folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("models") / "alike"
    card = read_card(recommender_folder)
    items = json.loads((recommender_folder / "items.json").read_text())
    with writing(target, card) as draft:
        for name in card.files:
            shutil.copyfile(recommender_folder / name, draft / name)
        directions = {"lamp": [1, 0, 0], "desk": [0, 2, 0], None: [0, 0, 0.5]}
        np.save(draft / VECTORS, np.array([[0, 0, 0], *(directions[KINDS.get(own)] for own in items)], np.float16))
        (draft / CATEGORIES).write_text(json.dumps({"kind": [KINDS.get(own) for own in items]}))
    return target


def ids(recommendations):
    return [item.id for item in recommendations.items]


def test_quotas(folder):
    service = load(folder)
    assert ids(service.recommend([103], 4)) == [107, 109, 113, 127]
    assert ids(service.recommend([103], 4, at_most={"kind": 1})) == [
        107,
        127,
        137,
        139,
    ]  # of no kind, so without a quota
    assert ids(service.recommend([103], 3, at_most={"kind": 0})) == [137, 139]  # all that the model ranks


def test_diversity(folder):
    service = load(folder)
    assert ids(service.recommend([103], 4, diversity=0.01)) == [107, 109, 113, 127]
    assert ids(service.recommend([103], 3, diversity=1)) == [107, 127, 137]
    both = service.recommend([103], 3, diversity=1, at_most={"kind": 1})
    assert ids(both) == [107, 127, 137]
    assert both.items[1].score == pytest.approx(1 / 4)  # scores stay the model's


def test_explained_together(folder):
    answer = load(folder).recommend([151, 103], 2, diversity=1, explain=True)
    assert ids(answer) == [107, 127]
    assert all(len(item.leave_one_out) == 2 for item in answer.items)


def test_over_http(folder, talking_to):
    with talking_to(create_app([load(folder)])) as client:
        found = client.post(PATH, json={"history": [103], "k": 2, "at_most": {"kind": 1}}).json()
        assert [item["id"] for item in found["items"]] == [107, 127]
        assert client.post(PATH, json={"history": [103], "diversity": 1.5}).status_code == 422


def test_says_what_is_wrong(folder, recommender_folder):
    service = load(folder)
    with pytest.raises(InputError, match="at_most names colour; the features with categories of this model: kind"):
        service.recommend([103], at_most={"colour": 1})
    with pytest.raises(InputError, match="one feature at a time"):
        service.recommend([103], at_most={"kind": 1, "colour": 1})
    with pytest.raises(InputError, match=r"exported without vectors\.npy"):
        load(recommender_folder).recommend([103], diversity=0.5)
