import numpy as np
import pytest

from headwise.errors import InputError
from headwise_recsys.item_features import Numbers, Tags
from headwise_recsys.user_rows import row, rows, size, told

TAGS = Tags("hobby", ("art", "chess", "golf"), np.array([[0, 0], [2, 0], [1, 3]], np.int32))
AGE = Numbers("age", (40.0,), (10.0,), np.array([[0], [-1.5], [0.5]], np.float32))
PLACE = Numbers("place", (1.0, 2.0), (2.0, 4.0), np.array([[0, 0], [1, 1], [2, 3]], np.float32))
FEATURES = (TAGS, AGE, PLACE)


def test_rows_by_hand() -> None:
    assert size(FEATURES) == 6
    found = rows(FEATURES, np.array([2, 0, 1]))
    assert found.dtype == np.float32
    assert found.tolist() == [[0.5, 0, 0.5, 0.5, 2, 3], [0] * 6, [0, 1, 0, -1.5, 1, 1]]


def test_a_request_says_what_was_prepared() -> None:
    for user in (1, 2):
        assert row(FEATURES, told(FEATURES, user)).tolist() == rows(FEATURES, np.array([user]))[0].tolist()
    assert told(FEATURES, 2) == {"hobby": ["art", "golf"], "age": [45.0], "place": [5.0, 14.0]}
    assert row(FEATURES, {"hobby": "chess", "age": 25}).tolist() == [0, 1, 0, -1.5, 0, 0]


def test_what_is_unknown_says_nothing() -> None:
    assert not row(FEATURES, {}).any()
    assert not row(FEATURES, {"hobby": ["rowing"], "age": None, "place": None}).any()
    codes = Tags("age", ("1", "25"), np.zeros((1, 1), np.int32))
    for given in (25, 25.0, "25"):
        assert row((codes,), {"age": given}).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"height": 3}, "user: height is nothing that this model knows of users, which is hobby, age, place"),
        ({"age": "old"}, "user: age is 'old', a number is needed; correct it, or leave it out"),
        ({"place": [1]}, r"user: place is \[1\], 2 numbers are needed"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        row(FEATURES, given)
