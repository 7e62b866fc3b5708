from typing import Any

import numpy as np
import pytest

from headwise.errors import InputError
from headwise_recsys.beside import Beside, Reading
from headwise_recsys.item_features import Tags
from headwise_recsys.schemas import RecommendationRequest

ALL = {"timed": True, "query_time": True, "event_types": True}


def request(items: int = 3, **more: Any) -> RecommendationRequest:
    return RecommendationRequest(list(range(items)), **more)


def test_only_what_the_model_reads_is_looked_at() -> None:
    assert Reading({}).inputs == ()
    assert Reading({}).read(request(times=[1], at=-7, events=["?"])) == Beside([], 0, [])
    assert Reading({"timed": True}).inputs == ("times",)
    assert Reading({"timed": True}).read(request(times=[1, 2, 3.9], at=-7)) == Beside([1, 2, 3], 0, [])


def test_everything_at_once_by_hand() -> None:
    reading = Reading(ALL, ("buy", "view"))
    assert reading.inputs == ("times", "at", "types")
    beside = reading.read(request(times=[7, 11, 13.5], at=17.9, events=["view", "buy", "view"]))
    assert beside == Beside([7, 11, 13], 17, [2, 1, 2])
    assert beside.of([0, 2]) == Beside([7, 13], 17, [2, 2])
    arrays = reading.arrays([beside, beside.of([1])])
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "times": [[7, 11, 13], [11, 0, 0]],
        "at": [17, 17],
        "types": [[2, 1, 2], [1, 0, 0]],
    }
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}
    assert reading.read(request(**reading.example(3))).types == [1, 1, 1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "times needs a number for each of the 3 items of history, it has none"),
        ({"times": [1, 2]}, "times needs a number for each of the 3 items of history, it has 2"),
        (
            {"times": [1, 2, 7], "at": 6},
            r"at \(6\) is before the last item of history was chosen \(7\): give the time at which",
        ),
        ({"times": [1, 2, 7], "at": 7}, "events needs a type for each of the 3 items of history, it has none"),
        ({"times": [1, 2, 7], "events": ["buy"]}, "events needs a type for each of the 3 items of history, it has 1"),
        (
            {"times": [1, 2, 7], "events": ["buy", "gift", "gift"]},
            "events: 'gift' is no type of event .* which are buy, view",
        ),
    ],
)
def test_what_does_not_fit_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Reading(ALL, ("buy", "view")).read(request(**more))


def test_what_is_known_of_the_user() -> None:
    hobby = Tags("hobby", ("art", "golf"), np.zeros((1, 1), np.int32))
    reading = Reading({"user_features": True}, features=(hobby,))
    assert reading.inputs == ("user",)
    known = [reading.read(request(user=user)) for user in ({"hobby": "golf"}, {"hobby": "chess"}, {}, None)]
    arrays = reading.arrays(known)
    assert arrays["user"].tolist() == [[0, 1], [0, 0], [0, 0], [0, 0]]
    assert arrays["user"].dtype == np.float32
    assert reading.example(3) == {"user": {"hobby": "art"}}
    assert reading.longest(3).user == [0, 0]
    with pytest.raises(InputError, match="user: height is nothing that this model knows of users, which is hobby"):
        reading.read(request(user={"height": 3}))


def test_a_type_that_is_not_known_may_be_ignored() -> None:
    given = {"times": [1, 2, 7], "events": ["buy", "gift", "view"], "on_unknown": "ignore"}
    assert Reading(ALL, ("buy", "view")).read(request(**given)).types == [1, 0, 2]
