import subprocess
import sys
from pathlib import Path

import pytest

from headwise.errors import InputError, NotFound
from headwise_recsys.columns import Columns
from headwise_recsys.item_encoding import titles
from headwise_recsys.readers import read, sources

pl = pytest.importorskip("polars")

DATA = Path(__file__).parents[3] / "shared/data"


def written(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(path, **columns):
    return read(path, Columns(**columns)).scan.collect().rows()


@pytest.mark.parametrize(
    ("name", "text", "events"),
    [
        ("ratings.dat", "7::11::5::100\n7::13::3::90\r\n2::11::4::80\n", [(7, 11, 100), (7, 13, 90), (2, 11, 80)]),
        ("other.dat", "7::11::4.5::100\n", [(7, 11, 100)]),
        ("u.data", "7\t11\t5\t100\n2\t11\t4\t80", [(7, 11, 100), (2, 11, 80)]),
        ("sasrec.txt", "1 1\n1 2\n2 1\n", [(1, 1), (1, 2), (2, 1)]),
        ("tabs.txt", "1\t1\n1\t2\n", [(1, 1), (1, 2)]),
        ("s3rec.txt", "1 5 3 5\n2 4\n\n", [(1, 5), (1, 3), (1, 5), (2, 4)]),
        ("words.txt", "ann B00 B01\nben B00\n", [("ann", "B00"), ("ann", "B01"), ("ben", "B00")]),
        ("a.csv", "user,item,timestamp\nann,007,5\nben,7,3\n", [("ann", "007", 5), ("ben", "7", 3)]),
        ("b.csv", "\ufeffuserId;x;movieId\n7;;11\n\n2;;13\n\n", [(7, 11), (2, 13)]),
        ("c.csv", 'title,uid,sku,date\n"a, ""b""\nc",1,x,2020-05-31\n', [(1, "x", 1_590_883_200)]),
        ("d.inter", "user_id:token\titem_id:token\ttimestamp:float\n1\t2\t3.5\n", [(1, 2, 3.5)]),
        ("e.csv", "user , item\n 1 , a b \n", [(1, "a b")]),
    ],
)
def test_every_form_is_recognised(tmp_path, name, text, events):
    assert rows(written(tmp_path / name, text)) == events


def test_parquet_of_any_types(tmp_path):
    frame = pl.DataFrame(
        {"time": ["2020-05-31", "2020-06-01"], "user_id": [7.0, 2.0], "item": ["x", "y"], "other": [[1], [2]]}
    )
    frame.with_columns(pl.col("time").str.to_date()).write_parquet(tmp_path / "table")
    assert rows(tmp_path / "table") == [(7, "x", 1_590_883_200), (2, "y", 1_590_969_600)]


def test_given_columns(tmp_path):
    path = written(tmp_path / "a.csv", "user,shopper,thing,when\n1,ann,x,5\n")
    assert rows(path, user="shopper", item="thing", time="when") == [("ann", "x", 5)]
    with pytest.raises(InputError, match=r"no item column; sought 'what'; found 'user', 'shopper', 'thing', 'when'"):
        rows(path, item="what")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", r"a\.csv: is empty$"),
        ("a.csv", "user,item\n", r"a\.csv: has no events$"),
        ("a.csv", "user,price\n1,2\n", r"a\.csv: no item column; sought item, .*; found 'user', 'price'"),
        ("a.csv", "AX1,B00,5.0,1300000000\n", r"a\.csv: no user column; .*found 'AX1', 'B00', '5.0', '1300000000'"),
        (
            "a.csv",
            "user,item\n1,2\n,3\n4,\n,5\n",
            r"a\.csv, line 3, column 'user': no user, and 1 more like it; complete",
        ),
        ("a.csv", "user,item\n1,2\n\n4, \n", r"a\.csv, line 4, column 'item': no item; complete"),
        ("a.csv", 'note,user,item\n"x\ny",1,2\nz,1\n', r"a\.csv, line 4, column 'item': no item"),
        (
            "a.csv",
            "user,item,time\n1,2,3\n1,2,x\n1,2,\n",
            r"line 3, column 'time': 'x' is not a time, and 1 more like it; use",
        ),
        ("a.csv", "user,item\n1,2\n1,2,3\n4,5,6\n", r"line 3: '1,2,3' has 3 fields, the header 2, and 1 more like it"),
        ("a.csv", b"user,item\n1,2\n1,caf\xe9\n", r"a\.csv, line 3: not UTF-8 text; save the file as UTF-8"),
        ("a.csv", b"\x1f\x8b\x08\x00\xff\n", r"a\.csv, line 1: not UTF-8 text; .* unpack it if it is compressed"),
        ("a.csv", 'user,item\n1,"2\n3,4\n', r"a\.csv: cannot be read"),
        (
            "ratings.dat",
            "1::2::3\n1::2::3::4\n",
            r"line 1: '1::2::3' is not user, item, rating and time with :: between; ",
        ),
        ("ratings.dat", "1::2::3::4\n\n1::2::3::4::5\n1\n", r"line 3: '1::2::3::4::5' is not .*, and 1 more like it"),
        ("ratings.dat", "1::2::3::4\n::2::3::4\n", r"line 2, column 'user': no user"),
        ("u.data", "1\t2\t3\t4\n1\t2\t3\tx\n", r"line 2, column 'time': 'x' is not a time"),
        ("u.data", b"1\t2\t3\t4\n1\t\xe9\t3\t4\n", r"u\.data, line 2: not UTF-8 text"),
        ("a.txt", "1 2\n3\n4\n5\n", r"line 2: '3' is not a user and at least one item, and 2 more like it; correct"),
        ("a.txt", "hello\n", r"a\.txt, line 1: 'hello' is in no known form; known are"),
        (
            "a.txt",
            "1 2 978300760\n1 3 978300761\n",
            r"a\.txt: every line ends in what looks like a time.*write it as CSV",
        ),
        ("a.parquet", b"PAR1 not really", r"a\.parquet: cannot be read as Parquet"),
    ],
)
def test_one_message_says_what_is_wrong_and_where(tmp_path, name, text, message):
    with pytest.raises(InputError, match=message) as raised:
        read(written(tmp_path / name, text))
    assert str(tmp_path / name) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_null_in_parquet_names_the_row(tmp_path):
    pl.DataFrame({"user": [1, None, None], "item": [1, 2, 3]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet, row 2, column 'user': no user, and 1 more like it"):
        read(tmp_path / "a.parquet")


def test_what_does_not_exist(tmp_path):
    with pytest.raises(NotFound, match="no such file or folder"):
        read(tmp_path / "absent.csv")


def test_a_folder_prefers_ratings_then_the_only_events(tmp_path):
    def chosen():
        return [path.name for path in sources(tmp_path)]

    written(tmp_path / "README", "About these data.\n")
    written(tmp_path / "SOURCE.txt", "user item lists of a shop\n")
    written(tmp_path / "items.json", '{"1": [' + "1, " * 70_000 + "2]}")
    with pytest.raises(InputError, match="no file of events in it; known are"):
        sources(tmp_path)
    written(tmp_path / "b.txt", "1 2\n")
    assert chosen() == ["b.txt"]
    written(tmp_path / "a.csv", "user,item\n1,2\n")
    with pytest.raises(InputError, match=r"a\.csv, b\.txt all hold events; name one of them"):
        sources(tmp_path)
    written(tmp_path / "u.data", "1\t2\t3\t4\n")
    assert chosen() == ["u.data"]
    written(tmp_path / "u.item", "2|A film|\n")
    assert chosen() == ["u.data", "u.item"]
    written(tmp_path / "ratings_2.csv", "user,item\n1,2\n")
    written(tmp_path / "movies.csv", "movieId,title\n2,A film\n")
    assert chosen() == ["ratings_2.csv", "movies.csv"]
    written(tmp_path / "ratings_3.csv", "user,item\n1,2\n")
    with pytest.raises(InputError, match=r"ratings_2\.csv, ratings_3\.csv all hold events"):
        sources(tmp_path)
    written(tmp_path / "ratings.csv", "user,item\n1,2\n")
    assert chosen() == ["ratings.csv", "movies.csv"]
    written(tmp_path / "ratings.dat", "1::2::3::4\n")
    written(tmp_path / "movies.dat", "2::A film::Drama\n")
    assert chosen() == ["ratings.dat", "movies.dat"]


@pytest.mark.parametrize(
    ("events", "name", "text"),
    [
        (
            ("ratings.dat", "1::2::3::4\n"),
            "movies.dat",
            "2::Café: a film (1995)::Drama\nx7::Other::\n".encode("latin-1"),
        ),
        (("ratings.dat", "1::2::3::4\n"), "movies.dat", "2::Café: a film (1995)::Drama\nx7::Other::\n".encode()),
        (("u.data", "1\t2\t3\t4\n"), "u.item", "2|Café: a film (1995)|01-Jan-1995\nx7|Other|\n".encode("latin-1")),
        (
            ("ratings.csv", "user,item\n1,2\n"),
            "movies.csv",
            'movieId,title\n2,"Café: a film (1995)"\nx7,Other\n'.encode(),
        ),
    ],
)
def test_titles_of_either_encoding(tmp_path, events, name, text):
    written(tmp_path / name, text)
    items = read(written(tmp_path / events[0], events[1])).items
    assert titles(items, ["x7", "2"]) == ["Other", "Café: a film (1995)"]


def test_titles_belong_to_the_original_ids_alone(tmp_path):
    written(tmp_path / "movies.dat", "1::A film::Drama\n")
    assert read(written(tmp_path / "ml-1m.txt", "1 1\n")).items is None


def test_importing_readers_does_not_import_polars():
    code = (
        "import sys, headwise_recsys.prepare, headwise_recsys.baselines\n"
        "sys.exit(bool({'polars', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


@pytest.mark.skipif(not (DATA / "ml-100k").exists(), reason=f"needs MovieLens 100K in {DATA}")
def test_movielens_100k():
    events = read(DATA / "ml-100k")
    frame = events.scan.collect()
    assert frame.shape == (100_000, 3)
    assert frame.row(0) == (196, 242, 881_250_949)
    assert titles(events.items, [242]) == ["Kolya (1996)"]


@pytest.mark.skipif(not (DATA / "beauty").exists(), reason=f"needs Amazon Beauty in {DATA}")
def test_beauty():
    frame = read(DATA / "beauty").scan.collect()
    assert (len(frame), frame["user"].n_unique(), frame["item"].n_unique()) == (198_502, 22_363, 12_101)
