import re

import pytest

from headwise.errors import InputError, NotFound
from headwise_recsys.item_tables import beside, read_items, read_users, users_beside

pl = pytest.importorskip("polars")


def table(tmp_path, name, text):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return read_items(file)


def test_movielens(tmp_path):
    items = table(tmp_path, "movies.dat", "1::Toy Story (1995)::Animation|Comedy\n3::Untitled::\n")
    assert items.to_dicts() == [
        {"item": 1, "title": "Toy Story (1995)", "genres": ["Animation", "Comedy"], "year": 1995.0},
        {"item": 3, "title": "Untitled", "genres": [], "year": None},
    ]


def test_movielens_100k_names_its_genres_in_another_file(tmp_path):
    (tmp_path / "u.genre").write_text("unknown|0\nAction|1\n\n")
    items = table(tmp_path, "u.item", "7|Heat (1995)|01-Jan-1995||http://x|0|1\n")
    assert items.row(0, named=True) == {"item": 7, "title": "Heat (1995)", "genres": ["Action"], "year": 1995.0}


def test_attributes_of_s3_rec(tmp_path):
    items = table(tmp_path, "Beauty_item2attributes.json", '{"4": [1, 2], "83": []}')
    assert items.rows() == [(4, ["1", "2"]), (83, [])]


def test_the_kind_of_a_column_follows_from_its_values(tmp_path):
    text = "sku,name,price,colours,shelf,about\na1,Lamp,2.5,red|blue,7,A lamp.\nb2,Desk,3,red,7,A desk.\nc3,Rug,,,8,A rug.\n"
    more = "".join(f"d{number},Cup,1,red,8,Cup {number}.\n" for number in range(29))
    items = table(tmp_path, "items.csv", text + more)
    assert items.schema == {
        "item": pl.String,
        "title": pl.String,
        "price": pl.Float64,
        "colours": pl.List(pl.String),
        "shelf": pl.List(pl.String),
    }
    assert items["price"].head(3).to_list() == [2.5, 3.0, None]
    assert items["colours"].head(3).to_list() == [["red", "blue"], ["red"], None]
    assert items["shelf"].head(3).to_list() == [["7"], ["7"], ["8"]]


def test_recbole_says_the_kinds_itself(tmp_path):
    head = "item_id:token\tmovie_title:token_seq\tgenre:token_seq\tclass:token\tprice:float\tvector:float_seq\n"
    items = table(tmp_path, "ml.item", head + "5\tA film\tA B\t1.5\t3\t0.5 2\n")
    expected = {"item": 5, "title": "A film", "genre": ["A", "B"], "class": ["1.5"], "price": 3.0, "vector": [0.5, 2.0]}
    assert items.row(0, named=True) == expected


def test_parquet_holds_vectors(tmp_path):
    frame = pl.DataFrame({"item_id": [3, 5], "embedding": [[1.0, 2.0], [3.0, 4.0]], "tags": [["x"], ["y", "x"]]})
    frame.write_parquet(tmp_path / "items.parquet")
    items = read_items(tmp_path / "items.parquet")
    assert items.rows() == [(3, [1.0, 2.0], ["x"]), (5, [3.0, 4.0], ["y", "x"])]


def test_a_table_belongs_to_the_events_it_stands_beside(tmp_path):
    for name in ("movies.dat", "u.item", "items.csv", "shop.item"):
        (tmp_path / name).touch()
    assert beside(tmp_path / "ratings.dat").name == "movies.dat"
    assert beside(tmp_path / "u.data").name == "u.item"
    assert beside(tmp_path / "shop.inter").name == "items.csv"
    (tmp_path / "items.csv").unlink()
    assert beside(tmp_path / "shop.inter").name == "shop.item"
    assert beside(tmp_path / "clicks.csv") is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("items.csv", "item,x\n1,a\n2,b\n1,c\n", "item 1 stands there more than once; keep one row of it"),
        ("items.csv", "thing,x\n1,a\n", "no item column; sought item, itemid"),
        ("movies.dat", "1::Heat\n", "line 1: has 2 fields, 3 are needed"),
        ("x_item2attributes.json", '{"4": 3}', 'is not {"item": [attribute, ...]}'),
    ],
)
def test_says_what_is_wrong(tmp_path, name, text, message):
    with pytest.raises(InputError, match=re.escape(message)) as error:
        table(tmp_path, name, text)
    assert str(error.value).startswith(str(tmp_path / name))


def test_users_of_movielens_and_of_a_table(tmp_path):
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    frame = read_users(tmp_path / "users.dat")
    assert frame.columns == ["user", "gender", "age", "occupation"]
    assert frame.rows() == [(1, ["F"], ["1"], ["10"]), (2, ["M"], ["56"], ["16"])]
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|94043\n")
    assert read_users(tmp_path / "u.user").rows() == [(1, 24.0, ["M"], ["technician"]), (2, 53.0, ["F"], ["other"])]
    (tmp_path / "people.csv").write_text("uid,team,name\na,x|y,1\nb,x,2\n")
    assert read_users(tmp_path / "people.csv").rows() == [("a", ["x", "y"], ["1"]), ("b", ["x"], ["2"])]
    (tmp_path / "people.csv").write_text("uid,team\na,x\na,y\n")
    with pytest.raises(InputError, match=r"people\.csv: user 'a' stands there more than once"):
        read_users(tmp_path / "people.csv")
    with pytest.raises(NotFound, match=r"none\.csv: there is no such table of users beside the events"):
        users_beside(tmp_path / "users.dat", "none.csv")
