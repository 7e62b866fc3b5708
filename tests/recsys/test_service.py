"""The tiny recommender: after item n of ITEMS the next ones follow in the order of the catalogue, scored 1, 1/2, 1/3 ..."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise.errors import InputError, NotFound
from headwise.examples import Examples
from headwise.model_folder import ModelCard, read_card, writing
from headwise.serving.app import create_app
from headwise_recsys.service import PATH, Recommender, load

ITEMS = [101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151]
WINDOW, MAX_K = 5, 7


@pytest.fixture(scope="module", name="recommender")
def recommender_fixture(recommender_folder: Path) -> Recommender:
    return load(recommender_folder, version="3")


@pytest.fixture(scope="module", name="client")
def client_fixture(recommender_folder: Path, talking_to: Callable[..., Any]) -> Iterator[Any]:
    with talking_to(create_app([load(recommender_folder, version="3")])) as client:
        yield client


def ids(response: Any) -> list[Any]:
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


def test_the_answer_by_hand(client: Any) -> None:
    assert client.post(PATH, json={"history": [151, 103], "k": 3}).json() == {
        "items": [
            {"id": 107, "score": 1.0, "title": "Title 107"},
            {"id": 109, "score": 0.5, "title": "Title 109"},
            {"id": 113, "score": pytest.approx(1 / 3), "title": "Title 113"},
        ],
        "model": {"name": "recommender", "version": "3"},
        "unknown": [],
    }
    [untitled] = client.post(PATH, json={"history": [101], "k": 1}).json()["items"]
    assert untitled == {"id": 103, "score": 1.0}


def test_exclude_and_allow(client: Any) -> None:
    assert ids(client.post(PATH, json={"history": [103], "k": 3, "exclude": [109, 107]})) == [113, 127, 131]
    assert ids(client.post(PATH, json={"history": [103], "k": 3, "allow": [101, 139, 103]})) == [139, 101]
    assert ids(client.post(PATH, json={"history": [103], "allow": []})) == []
    assert len(ids(client.post(PATH, json={"history": [103], "allow": None}))) == MAX_K


def test_history_beyond_the_window_still_counts_as_seen(client: Any) -> None:
    seen = [107, 109, 113, 127, 131, 137, 103]
    assert len(seen) > WINDOW
    assert ids(client.post(PATH, json={"history": seen, "k": 4})) == [139, 149, 151, 101]


def test_batch_mates_do_not_change_an_answer(client: Any) -> None:
    bodies = [{"history": ITEMS[: 1 + n % 7][::-1], "k": 1 + n % 5, "exclude": ITEMS[n % 3 : 3]} for n in range(41)]
    alone = [ids(client.post(PATH, json=body)) for body in bodies]
    assert [ids(response) for response in client.together(PATH, bodies)] == alone


def test_a_bad_request_does_not_fail_its_neighbours(client: Any) -> None:
    good, bad = {"history": [103], "k": 2}, {"history": ["no such item"], "k": 2}
    assert [r.status_code for r in client.together(PATH, [good, bad, good])] == [200, 422, 200]


def test_unknown_items_are_named(client: Any) -> None:
    response = client.post(PATH, json={"history": [103, "x", 5], "exclude": [5], "allow": [101, 7]})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["unknown"] == ["x", 5, 7]
    assert 'does not know: "x", 5, 7; leave them out, or send "on_unknown": "ignore"' in response.json()["detail"]


def test_an_id_of_the_wrong_type_is_hinted_at(client: Any) -> None:
    detail = client.post(PATH, json={"history": ["103"]}).json()["detail"]
    assert "this model's ids are numbers" in detail


def test_unknown_items_can_be_ignored(client: Any) -> None:
    body = {"history": [103, "x"], "k": 2, "exclude": [8], "on_unknown": "ignore"}
    response = client.post(PATH, json=body)
    assert ids(response) == [107, 109]
    assert response.json()["unknown"] == ["x", 8]
    assert ids(client.post(PATH, json={**body, "allow": ["y"]})) == []  # nothing that is allowed is known
    nothing_left = client.post(PATH, json={"history": ["x"], "on_unknown": "ignore"})
    assert nothing_left.status_code == 422
    assert "no item that this model knows" in nothing_left.json()["detail"]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"history": []}, "history is empty"),
        ({}, "missing required field `history`"),
        ({"history": [103], "k": 8}, "k is 8; this model recommends 1 to 7 items"),
        ({"history": [103], "k": 0}, "k is 0"),
        ({"history": [103], "k": "5"}, "$.k"),
        ({"history": [103], "k": True}, "$.k"),
        ({"history": [103.0]}, "$.history[0]"),
        ({"history": [[103]]}, "$.history[0]"),
        ({"history": [None]}, "$.history[0]"),
        ({"history": 103}, "$.history"),
        ({"history": [103], "excluded": [101]}, "unknown field `excluded`"),
        ({"history": [103], "on_unknown": "maybe"}, "$.on_unknown"),
        ({"history": [103], "explain": "yes"}, "$.explain"),
        ([103], "Expected `object`"),
    ],
)
def test_bodies_that_do_not_fit(client: Any, body: Any, detail: str) -> None:
    response = client.post(PATH, json=body)
    assert response.status_code == 422
    assert detail in response.json()["detail"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"history": [NaN]}', 400),
        (b'{"history": ["\\ud800"]}', 400),
        (b'{"history": [1' + b"0" * 5000 + b"]}", 422),
        (b'{"history": [103], "k": 1e400}', 422),
        (b'{"history":' + b"[" * 100_000, 422),
        (b'{"history": [' + b"103," * 300_000 + b"103]}", 413),
    ],
)
def test_hostile_bodies(client: Any, content: bytes, status: int) -> None:
    response = client.post(PATH, content=content, headers={"content-type": "application/json"})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(ITEMS),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=11,
)
IDS = st.lists(st.sampled_from(ITEMS) | st.integers() | st.text(), max_size=17)
REQUESTS = st.fixed_dictionaries(
    {"history": IDS},
    optional={
        "k": st.integers(-3, 11),
        "exclude": IDS,
        "allow": st.none() | IDS,
        "on_unknown": st.sampled_from(["error", "ignore"]),
        "explain": st.booleans(),
    },
)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(REQUESTS, REQUESTS, JSON, st.dictionaries(st.sampled_from(["history", "k", "exclude", "allow"]), JSON))
)
def test_no_json_body_makes_the_server_fail(client: Any, body: Any) -> None:
    content = json.dumps(body).encode()
    response = client.post(PATH, content=content, headers={"content-type": "application/json"})
    assert response.status_code in (200, 400, 422), response.text
    if response.status_code == 200:
        found, given_ids = ids(response), set(body["history"]) | set(body.get("exclude", []))
        assert not given_ids & set(found)
        assert len(found) == len(set(found)) <= body.get("k", MAX_K)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=101))
def test_no_bytes_make_the_server_fail(client: Any, content: bytes) -> None:
    response = client.post(PATH, content=content, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)


def test_the_plain_call_answers_as_the_server_does(recommender: Recommender) -> None:
    answer = recommender.recommend([151, 103], 2, exclude=[107], allow=[107, 109, 113, 127])
    assert [(item.id, item.score) for item in answer.items] == [(109, 0.5), (113, pytest.approx(1 / 3))]
    with pytest.raises(InputError, match="does not know: 5; leave"):
        recommender.recommend([103, 5])


def test_many_histories_at_once_are_answered_as_one_by_one(recommender: Recommender) -> None:
    histories = [[*ITEMS[n % 11 :], *ITEMS[: n % 11]][: n % 8] for n in range(71)]
    one_by_one = [[item.id for item in recommender.recommend(each, 3).items] if each else [] for each in histories]
    assert recommender.recommend_many(histories, 3) == one_by_one
    assert recommender.recommend_many([["x", 103]], 2) == [[107, 109]]
    assert recommender.numbers([103, "x", 101]) == [2, 0, 1]
    with pytest.raises(InputError, match="k is 8"):
        recommender.recommend_many([], 8)
    with pytest.raises(InputError, match="k is 11"):
        recommender.recommend_many([], 20)  # all 11 items, still more than the graph gives


def test_many_histories_in_numbers_have_scores_and_lists_of_what_is_allowed(recommender: Recommender) -> None:
    first, nothing, third = recommender.rank_many([[2], [], [11, 5]], 7)
    assert first[0].tolist() == [3, 4, 5, 6, 7, 8, 9]
    np.testing.assert_allclose(first[1], 1 / np.arange(1, 8), rtol=1e-6)
    assert (len(nothing[0]), len(nothing[1])) == (0, 0)
    assert third[0].tolist() == [6, 7, 8, 9, 10, 1, 2]
    [(items, scores)] = recommender.rank_many([[2]], 3, allow=[[1, 2, 9]])
    assert (items.tolist(), scores.tolist()) == ([9, 1], pytest.approx([1 / 7, 1 / 10]))


def test_an_explanation_by_hand(client: Any, recommender: Recommender) -> None:
    body = {"history": [107, 151, 103], "k": 2, "exclude": [109], "explain": True}
    answer = client.post(PATH, json=body).json()
    assert answer["history"] == [
        {"id": 107, "attention": pytest.approx(1 / 6), "title": "Title 107"},
        {"id": 151, "attention": pytest.approx(2 / 6), "title": "Title 151"},
        {"id": 103, "attention": pytest.approx(3 / 6)},
    ]
    # Only the last item counts here: 113 is the third after 103 and 127 the fourth, the fifth and the sixth after 151.
    assert [(item["id"], item["score"]) for item in answer["items"]] == [(113, pytest.approx(1 / 3)), (127, 0.25)]
    assert answer["items"][0]["leave_one_out"] == [0, 0, pytest.approx(1 / 3 - 1 / 5)]
    assert answer["items"][1]["leave_one_out"] == [0, 0, pytest.approx(1 / 4 - 1 / 6)]
    plain = recommender.recommend([107, 151, 103], 2, exclude=[109], explain=True)
    assert msgspec.to_builtins(plain) == answer


def test_drops_keep_the_order_of_the_items_though_leaving_out_changes_it(recommender: Recommender) -> None:
    answer = recommender.recommend([149, 103], 5, allow=[151, 113, 101, 139, 107], explain=True)
    scores = {  # after 103, and after 149 alone
        own: (1 / (1 + (place - 2) % 11), 1 / (1 + (place - 10) % 11)) for place, own in enumerate(ITEMS)
    }
    assert [item.id for item in answer.items] == [107, 113, 139, 151, 101]
    for item in answer.items:
        whole, without = scores[item.id]
        assert item.leave_one_out == [0, pytest.approx(whole - without, abs=1e-6)]


def test_what_is_not_asked_for_is_not_there(client: Any) -> None:
    answer = client.post(PATH, json={"history": [151, 103], "k": 1}).json()
    assert answer.keys() == {"items", "model", "unknown"}
    assert answer["items"][0].keys() == {"id", "score", "title"}


def test_only_what_the_model_reads_is_explained(client: Any) -> None:
    long = [139, 107, 109, 113, 127, 131, 137, 103]
    answer = client.post(PATH, json={"history": [*long, "x"], "on_unknown": "ignore", "explain": True}).json()
    assert [item["id"] for item in answer["history"]] == long[-WINDOW:]
    assert {len(item["leave_one_out"]) for item in answer["items"]} == {WINDOW}
    assert not {139, 107, 109} & {item["id"] for item in answer["items"]}


def test_explanations_of_next_to_nothing(client: Any) -> None:
    answer = client.post(PATH, json={"history": [103], "k": 2, "explain": True}).json()
    assert answer["history"] == [{"id": 103, "attention": 1.0}]
    assert all("leave_one_out" not in item for item in answer["items"])
    answer = client.post(PATH, json={"history": [101, 103], "allow": [103], "explain": True}).json()
    assert (answer["items"], len(answer["history"])) == ([], 2)
    answer = client.post(PATH, json={"history": [101, 103], "allow": [], "explain": True}).json()
    assert (answer["items"], answer["history"]) == ([], [])


def test_explanations_and_answers_at_once(client: Any) -> None:
    bodies = [{"history": ITEMS[n % 3 : n % 3 + 2], "k": 3, "explain": n % 5 == 0} for n in range(41)]
    alone = [client.post(PATH, json=body).json() for body in bodies]
    assert [response.json() for response in client.together(PATH, bodies)] == alone


def test_more_explanations_than_may_wait_are_sent_away_and_answers_are_not(client: Any) -> None:
    bodies = [{"history": [101, 103], "explain": True}] * 61 + [{"history": [101, 103]}] * 61
    statuses = [response.status_code for response in client.together(PATH, bodies)]
    assert set(statuses[:61]) == {200, 429}
    assert set(statuses[61:]) == {200}


def test_a_long_answer_is_not_explained(recommender_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwise_recsys.service.MAX_EXPLAINED", 3)
    with pytest.raises(InputError, match="k is 5; with explain it is 3 at most"):
        load(recommender_folder).recommend([103], 5, explain=True)


def test_a_folder_without_explanations_answers_everything_else(
    recommender_folder: Path, tmp_path: Path, talking_to: Callable[..., Any]
) -> None:
    with writing(tmp_path / "old", ModelCard("recommender", "old", {"window": 5, "max_k": 7}, {}, {}, {})) as draft:
        for name in ("recommender.onnx", "items.json"):
            shutil.copy(recommender_folder / name, draft)
    with talking_to(create_app([load(tmp_path / "old")])) as client:
        assert client.get("/readyz").status_code == 200
        assert ids(client.post(PATH, json={"history": [103], "k": 1})) == [107]
        refused = client.post(PATH, json={"history": [103], "k": 1, "explain": True})
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert "exported without explanation.onnx" in refused.json()["detail"]


def test_words_of_the_command_line_become_ids(recommender: Recommender) -> None:
    assert recommender.own_id("103") == 103
    assert recommender.own_id("-3") == -3
    assert recommender.own_id("x7") == "x7"


def test_openapi_documents_the_route_with_an_example_that_works(client: Any) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"][PATH]["post"]
    body = operation["requestBody"]["content"]["application/json"]
    assert client.post(PATH, json=body["example"]).status_code == 200
    schema = document["components"]["schemas"][body["schema"]["$ref"].rpartition("/")[2]]
    assert set(schema["properties"]) == {
        "history",
        "k",
        "exclude",
        "allow",
        "on_unknown",
        "diversity",
        "at_most",
        "times",
        "at",
        "events",
        "user",
        "explain",
    }
    assert {"200", "400", "413", "415", "422", "429", "500", "503"} <= set(operation["responses"])
    answer = document["components"]["schemas"]["Recommendations"]
    assert "history" in answer["properties"]
    assert "history" not in answer["required"]
    explained = client.post(PATH, json={**body["example"], "explain": True}).json()
    assert set(explained) <= set(answer["properties"])


def test_folders_that_cannot_be_served(recommender_folder: Path, recogniser_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a recogniser, a recommender is needed"):
        load(recogniser_folder)
    with pytest.raises(NotFound, match="not a model folder"):
        load(tmp_path)
    card = ModelCard("recommender", "torn", {"window": 5, "max_k": 7}, {}, {}, {})
    with writing(tmp_path / "torn", card) as draft:
        shutil.copy(recommender_folder / "recommender.onnx", draft)
        (draft / "items.json").write_text("[1, 2")
    with pytest.raises(InputError, match=r"items.json: cannot be read .*export the model again"):
        load(tmp_path / "torn")
    with writing(tmp_path / "blind", ModelCard("recommender", "blind", {"max_k": 7}, {}, {}, {})) as draft:
        (draft / "items.json").write_text("[1]")
    with pytest.raises(InputError, match=r"settings.window is None"):
        load(tmp_path / "blind")


@pytest.mark.parametrize(
    ("first", "second", "agreement"),
    [
        ([1, 2, 3], [3, 1, 2], 1.0),
        ([1, 2, 3], [3, 5, 7], 1 / 3),
        ([1, 2], [1, 2, 3, 5], 1 / 2),
        ([], [], 1.0),
        ([1], [], 0.0),
    ],
)
def test_how_far_two_answers_agree(recommender_folder, first, second, agreement) -> None:
    bodies = (json.dumps({"items": [{"id": own, "score": 1.0} for own in ids]}).encode() for ids in (first, second))
    assert load(recommender_folder).agreement(*bodies) == agreement


@pytest.mark.parametrize("wrong", [0.0, 0.5])
def test_a_graph_that_answers_otherwise_than_at_export_is_not_loaded(recommender_folder, tmp_path, wrong) -> None:
    some = {"history": [[1, 2, 3]], "lengths": [3], "k": 2, "exclude": [[0]], "allow": [[0]]}
    asked = {name: np.asarray(value, np.int64) for name, value in some.items()}
    with writing(tmp_path / "model", read_card(recommender_folder)) as draft:
        for name in read_card(recommender_folder).files:
            shutil.copyfile(recommender_folder / name, draft / name)
        Examples(asked, {"scores": np.array([[1 + wrong, 1 / 2]], np.float32)}).save(draft)
    if not wrong:
        assert load(tmp_path / "model").catalogue == 11
        return
    with pytest.raises(InputError, match=r"recommender.onnx: its scores for the example .* are not those"):
        load(tmp_path / "model")
