from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from headwise.errors import InputError
from headwise_recsys.columns import USUAL, Columns, choose, fits, ids, seconds

pl = pytest.importorskip("polars")


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        (["user", "item"], ("user", "item", None)),
        (["userId", "movieId", "rating", "timestamp"], ("userId", "movieId", "timestamp")),
        (["user_id:token", "item_id:token", "rating:float", "timestamp:float"], (0, 1, 3)),
        (["reviewerID", "asin", "unixReviewTime", "reviewTime"], ("reviewerID", "asin", "unixReviewTime")),
        (["date", "uid", "sku", "price"], ("uid", "sku", "date")),
        ([" USER-ID ", "Product_ID"], (" USER-ID ", "Product_ID", None)),
        (["item_id", "item", "user", "time", "timestamp"], ("user", "item", "timestamp")),
    ],
)
def test_usual_names_are_found(header, chosen):
    names = [header[name] if isinstance(name, int) else name for name in chosen]
    roles = zip(("user", "item", "time"), names, strict=True)
    assert choose(header, USUAL, Path("x.csv")) == {role: name for role, name in roles if name is not None}
    assert fits(header, USUAL)


def test_event_types_are_read_only_where_their_column_is_named():
    header = ["user", "item", "event", "type"]
    assert "event" not in choose(header, USUAL, Path("x.csv"))
    assert choose(header, Columns(event="type"), Path("x.csv"))["event"] == "type"
    assert Columns(event="type").plain() == {"user": None, "item": None, "time": None, "event": "type"}
    assert USUAL.plain() == {"user": None, "item": None, "time": None}  # as before, so that old prepared data are found


def test_given_names_come_first():
    header = ["user", "item", "time", "shopper"]
    assert choose(header, Columns(user="shopper"), Path("x.csv")) == {"user": "shopper", "item": "item", "time": "time"}


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        (
            ["user", "price"],
            USUAL,
            r"x\.csv: no item column; sought item, itemid, .*; found 'user', 'price'; name the column",
        ),
        (["user", "item"], Columns(user="who"), r"no user column; sought 'who'; found 'user', 'item'"),
        (["user", "item", "time"], Columns(time="when"), r"no time column; sought 'when'"),
        (
            ["user", "item", "kind"],
            Columns(event="type"),
            r"no event column; sought 'type'; found 'user', 'item', 'kind'",
        ),
    ],
)
def test_a_missing_column_is_named_with_what_was_found(header, columns, message):
    with pytest.raises(InputError, match=message):
        choose(header, columns, Path("x.csv"))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["7", "-11", "0"], [7, -11, 0]),
        (["7", "007"], ["7", "007"]),
        (["7", "B00"], ["7", "B00"]),
        (["7", "+8"], ["7", "+8"]),
        (["7", None], [7, None]),
        (["99999999999999999999"], ["99999999999999999999"]),
        ([7, 11], [7, 11]),
        ([7.0, None, 11.0], [7, None, 11]),
    ],
)
def test_ids_are_numbers_where_all_are(given, read):
    assert ids(pl.Series(given), "x").to_list() == read


def test_categories_are_text():
    assert ids(pl.Series(["a", "b"], dtype=pl.Categorical), "x").to_list() == ["a", "b"]


@pytest.mark.parametrize("given", [[1.5], [True], [date(2020, 1, 1)]])
def test_other_ids_are_refused(given):
    with pytest.raises(InputError, match=r"x\.csv, column 'user': ids are whole numbers or text"):
        ids(pl.Series(given), "x.csv, column 'user'")


DAY = 1_590_883_200  # 2020-05-31 00:00 UTC


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([DAY, DAY + 1], [DAY, DAY + 1]),
        ([DAY * 1000 + 500], [DAY + 0.5]),
        ([DAY * 10**6], [DAY]),
        ([DAY * 10**9], [DAY]),
        (["1590883200", "1590883200.5", " 7 "], [DAY, DAY + 0.5, None]),
        (["2020-05-31", "2020-05-31 00:00:01", "2020-05-31T00:00:00.5"], [DAY, DAY + 1, DAY + 0.5]),
        (["2020-05-31T02:00:00+02:00", "2020-05-31T00:00:00Z"], [DAY, DAY]),
        (["2020-05-31", "2020-06-31", "7", None, "2020-05-31"], [DAY, None, None, None, DAY]),
        (["31/05/2020"], [None]),
        ([date(2020, 5, 31), None], [DAY, None]),
        ([datetime(2020, 5, 31)], [DAY]),
        ([datetime(2020, 5, 31, tzinfo=UTC)], [DAY]),
        ([1.5, float("nan"), float("inf")], [1.5, None, None]),
        ([True], [None]),
        ([None, None], [None, None]),
    ],
)
def test_times_become_seconds(given, read):
    assert seconds(pl.Series(given)).to_list() == read
