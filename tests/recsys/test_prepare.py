import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise_recsys.columns import Columns
from headwise_recsys.interactions import load
from headwise_recsys.prepare import prepare

pytest.importorskip("polars")

DATA = Path(__file__).parents[3] / "shared/data"

events = st.tuples(st.sampled_from(["ann", "ben", "7", "007"]), st.sampled_from("uvwxy"), st.integers(0, 5))


def table(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("user", "item", "time"), *rows])
    return path


def prepared(rows, **options):
    with TemporaryDirectory() as folder:
        data = prepare(table(Path(folder) / "made.csv", rows), Path(folder) / "prepared", **options)
        return histories(data), data


def histories(data):
    own = [data.item_ids[item - 1] for item in data.items.tolist()]
    return {user: own[data.offsets[u] : data.offsets[u + 1]] for u, user in enumerate(data.user_ids)}


def test_by_hand(tmp_path):
    path = table(
        tmp_path / "made.csv", [(7, "b", 9), (11, "a", 3), (7, "c", 2.9), (2, "b", 5), (7, "a", 9), (11, "b", 1)]
    )
    data = prepare(path, tmp_path / "prepared", min_count=2)
    assert (data.user_ids, data.item_ids) == ([7, 11], ["a", "b"])  # 2 and c occur once
    assert (data.offsets.tolist(), data.items.tolist()) == ([0, 2, 4], [2, 1, 2, 1])
    assert data.times.tolist() == [9, 9, 1, 3]
    assert (data.name, data.source, data.min_count) == ("made", f"{tmp_path.name}/made.csv", 2)
    assert data.titles is None


def test_types_of_events_travel_with_them(tmp_path, monkeypatch):
    rows = [(7, "b", 9, "view"), (11, "a", 3, "buy"), (7, "c", 2.9, "cart"), (7, "b", 9, "buy"), (2, "a", 4, "view")]
    path = tmp_path / "made.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("user", "item", "time", "what"), *rows])
    plain = prepare(path, tmp_path / "prepared", min_count=1)
    assert (plain.types, plain.type_names) == (None, ())
    monkeypatch.setattr("headwise_recsys.prepare.PART", 2)
    data = prepare(path, tmp_path / "prepared", min_count=1, columns=Columns(event="what"))
    assert data.fingerprint != plain.fingerprint
    assert data.type_names == ("buy", "cart", "view")
    assert data.types.dtype == np.int16
    own = [
        (data.item_ids[item - 1], data.type_names[kind - 1]) for item, kind in zip(data.items, data.types, strict=True)
    ]
    assert own == [("a", "view"), ("c", "cart"), ("b", "view"), ("b", "buy"), ("a", "buy")]


def test_a_table_of_users_is_read_where_it_is_named(tmp_path):
    path = table(tmp_path / "made.csv", [(7, "b", 9), (11, "a", 3), (5, "c", 2)])
    (tmp_path / "people.csv").write_text("user,team\n11,red\n7,blue|red\n3,green\n")
    plain = prepare(path, tmp_path / "prepared", min_count=1)
    assert plain.user_features == ()
    data = prepare(path, tmp_path / "prepared", min_count=1, users="people.csv")
    assert data.fingerprint != plain.fingerprint
    assert data.user_ids == [5, 7, 11]
    [team] = data.user_features
    assert team.vocabulary == ("blue", "red")
    assert team.values.tolist() == [[0, 0], [0, 0], [1, 2], [2, 0]]
    assert prepare(path, tmp_path / "prepared", min_count=1).fingerprint == plain.fingerprint


def test_a_column_that_cannot_hold_types_is_refused(tmp_path, monkeypatch):
    path = table(tmp_path / "made.csv", [("u", "a", time) for time in range(5)])
    monkeypatch.setattr("headwise_recsys.prepare.MOST_TYPES", 3)
    with pytest.raises(InputError, match=r"made\.csv: the column of event types holds 5 different values, 3 at most"):
        prepare(path, tmp_path, min_count=1, columns=Columns(event="time"))
    (tmp_path / "ratings.dat").write_text("1::13::5::1\n1::11::5::2\n")
    with pytest.raises(
        InputError, match=r"ratings\.dat: columns\.event \(rating\) names a column, and this file has no header"
    ):
        prepare(tmp_path / "ratings.dat", tmp_path, min_count=1, columns=Columns(event="rating"))


def test_counts_are_those_of_the_source(tmp_path):
    # Without ben, x is left with one event, and stays: the filter is applied once.
    path = table(
        tmp_path / "made.csv", [("ann", "x", 1), ("ann", "y", 2), ("cy", "y", 3), ("cy", "y", 4), ("ben", "x", 5)]
    )
    assert histories(prepare(path, tmp_path, min_count=2)) == {"ann": ["x", "y"], "cy": ["y", "y"]}


@settings(deadline=None, max_examples=30)
@given(st.lists(events, min_size=1, max_size=19))
def test_equal_times_keep_the_order_of_the_file(rows):
    found, _ = prepared(rows, min_count=1)
    users = sorted({user for user, _, _ in rows})
    if all(user == "7" for user in users):
        users = [7]
    assert found == {
        user: [item for own, item, _ in sorted(rows, key=lambda row: row[2]) if own == str(user)] for user in users
    }


@settings(deadline=None, max_examples=30)
@given(st.lists(events, min_size=1, max_size=19, unique_by=lambda row: row[2]), st.randoms())
def test_the_order_of_rows_at_distinct_times_changes_nothing(rows, shuffler):
    _, first = prepared(rows, min_count=1)
    shuffler.shuffle(rows)
    _, second = prepared(rows, min_count=1)
    assert (first.user_ids, first.item_ids) == (second.user_ids, second.item_ids)
    np.testing.assert_array_equal(first.offsets, second.offsets)
    np.testing.assert_array_equal(first.items, second.items)
    np.testing.assert_array_equal(first.times, second.times)


def test_times_finer_than_a_second_sort_before_they_are_cut(tmp_path):
    path = table(tmp_path / "made.csv", [(7, "b", 1_590_883_200_900), (7, "a", 1_590_883_200_100)])
    data = prepare(path, tmp_path, min_count=1)
    assert data.items.tolist() == [1, 2]
    assert data.times.tolist() == [1_590_883_200] * 2


def test_without_times_the_file_is_in_order(tmp_path):
    path = tmp_path / "made.txt"
    path.write_text("11 5 3\n7 2\n11 4\n")
    data = prepare(path, tmp_path / "prepared", min_count=1)
    assert histories(data) == {7: [2], 11: [5, 3, 4]}
    assert data.times is None


def test_titles_are_aligned(tmp_path):
    (tmp_path / "ratings.dat").write_text("1::13::5::1\n1::11::5::2\n1::12::5::3\n")
    (tmp_path / "movies.dat").write_text("11::Eleven::\n13::Thirteen::\n17::Never rated::\n")
    data = prepare(tmp_path, tmp_path / "prepared", min_count=1)
    assert (data.item_ids, data.titles) == ([11, 12, 13], ["Eleven", None, "Thirteen"])
    assert data.name == tmp_path.name


def test_prepared_once_until_the_source_or_the_options_change(tmp_path):
    def folders():
        return sorted(path.name for path in (tmp_path / "prepared").iterdir())

    path = table(tmp_path / "made.csv", [(7, "b", 9), (7, "b", 3)])
    first = prepare(path, tmp_path / "prepared", min_count=1)
    assert folders() == [f"made-{first.fingerprint[:12]}"]
    stamp = (tmp_path / "prepared" / folders()[0]).stat().st_mtime_ns
    assert prepare(path, tmp_path / "prepared", min_count=1).fingerprint == first.fingerprint
    assert (tmp_path / "prepared" / folders()[0]).stat().st_mtime_ns == stamp
    prepare(path, tmp_path / "prepared", min_count=2)
    prepare(path, tmp_path / "prepared", min_count=1, columns=Columns(time="time"))
    assert len(folders()) == 3
    table(path, [(7, "b", 9), (7, "a", 3), (7, "c", 1)])
    assert prepare(path, tmp_path / "prepared", min_count=1).events == 3
    assert len(folders()) == 4


def test_a_damaged_folder_is_made_again(tmp_path):
    path = table(tmp_path / "made.csv", [(7, "b", 9), (7, "a", 3)])
    prepare(path, tmp_path / "prepared", min_count=1)
    (folder,) = (tmp_path / "prepared").iterdir()
    (folder / "items.npy").write_bytes(b"cut")
    assert prepare(path, tmp_path / "prepared", min_count=1).items.tolist() == [1, 2]
    assert load(folder).events == 2


def test_nothing_left_is_said_and_nothing_written(tmp_path):
    path = table(tmp_path / "made.csv", [(7, "b", 9), (7, "a", 3)])
    with pytest.raises(InputError, match=r"made\.csv: min_count 5 leaves none of its 2 events; lower min_count"):
        prepare(path, tmp_path / "prepared")
    assert not list((tmp_path / "prepared").rglob("*"))
    with pytest.raises(InputError, match=r"min_count \(0\) must be at least 1"):
        prepare(path, tmp_path / "prepared", min_count=0)


@pytest.mark.skipif(not (DATA / "ml-1m").exists(), reason=f"needs MovieLens 1M in {DATA}")
def test_movielens_1m_becomes_the_published_sasrec_data(tmp_path):
    data = prepare(DATA / "ml-1m", tmp_path)
    assert (data.users, data.item_count, data.events) == (6040, 3416, 999_611)
    assert data.titles[data.item_ids.index(1198)] == "Raiders of the Lost Ark (1981)"
    published = prepare(DATA / "ml-1m/ml-1m.txt", tmp_path, min_count=1)
    items = dict(np.loadtxt(DATA / "ml-1m/sas_to_original_items.txt", dtype=int).tolist())
    users = dict(np.loadtxt(DATA / "ml-1m/sas_to_original_users.txt", dtype=int).tolist())
    relabelled = {users[user]: [items[item] for item in history] for user, history in histories(published).items()}
    assert histories(data) == relabelled


@pytest.mark.skipif(not (DATA / "ml-1m").exists(), reason=f"needs MovieLens 1M in {DATA}")
def test_the_original_file_and_the_table_are_prepared_alike(tmp_path):
    import polars as pl

    frame = pl.read_parquet(DATA / "ml-1m/ratings_ts.parquet").head(50_021)
    rows = [f"{user}::{item}::{rating}::{time}" for user, item, rating, time, _ in frame.iter_rows()]
    (tmp_path / "ratings.dat").write_text("\n".join(rows))
    frame.write_parquet(tmp_path / "table.parquet")
    dat, parquet = (prepare(tmp_path / name, tmp_path / "prepared") for name in ("ratings.dat", "table.parquet"))
    assert histories(dat) == histories(parquet)
    np.testing.assert_array_equal(dat.times, parquet.times)


def test_a_prepared_folder_is_taken_as_it_is(tmp_path):
    source = tmp_path / "events.csv"
    source.write_text("user,item,timestamp\nann,x,3\nann,y,5\nbob,x,7\n")
    first = prepare(source, tmp_path / "data", min_count=1)
    (folder,) = (tmp_path / "data").iterdir()
    again = prepare(folder, tmp_path / "elsewhere", min_count=5)
    assert (again.fingerprint, again.item_ids) == (first.fingerprint, ["x", "y"])
    assert not (tmp_path / "elsewhere").exists()


def test_titles_stand_beside_events(tmp_path):
    (tmp_path / "events.csv").write_text("user,item,timestamp\nann,sku-2,3\nann,sku-1,5\n")
    (tmp_path / "items.csv").write_text("item,title\nsku-1,walnut desk\n")
    assert prepare(tmp_path, tmp_path / "data", min_count=1).titles == ["walnut desk", None]


@pytest.mark.parametrize("part", [1, 3, 7])
def test_files_larger_than_memory_are_taken_in_parts(tmp_path, monkeypatch, part):
    rng = np.random.default_rng(part)
    rows = [(int(rng.integers(1, 6)), f"i{rng.integers(1, 8)}", float(rng.integers(0, 5)) / 2) for _ in range(43)]
    path = table(tmp_path / "made.csv", rows)
    whole = prepare(path, tmp_path / "whole", min_count=5)
    monkeypatch.setattr("headwise_recsys.prepare.PART", part)
    parts = prepare(path, tmp_path / "parts", min_count=5)
    assert histories(parts) == histories(whole)
    np.testing.assert_array_equal(parts.times, whole.times)
