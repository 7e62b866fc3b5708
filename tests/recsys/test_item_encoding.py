import numpy as np
import pytest

from headwise.errors import InputError
from headwise_recsys.item_encoding import features, more, titles
from headwise_recsys.item_features import load, save

pl = pytest.importorskip("polars")


def items():
    return pl.DataFrame(
        {
            "item": [11, 13, 17],
            "title": ["A", None, "C"],
            "genres": [["x", "y"], None, ["y"]],
            "year": [2000.0, 2004.0, None],
            "vector": [[1.0, 5.0], [3.0, 5.0], None],
            "nothing": pl.Series([None, None, None], dtype=pl.Float64),
        }
    )


def test_by_hand():
    genres, year, vector = features(items(), [17, 11, 19])  # 19 is not in the table
    assert (genres.name, genres.vocabulary, genres.values.tolist()) == (
        "genres",
        ("x", "y"),
        [[0, 0], [2, 0], [1, 2], [0, 0]],
    )
    assert (year.mean, year.deviation) == ((2000.0,), (1.0,))  # a single value deviates by nothing
    assert year.values.tolist() == [[0], [0], [0], [0]]
    assert vector.values.shape == (4, 2)
    assert titles(items(), [17, 13]) == ["C", None]


def test_numbers_are_standardised():
    _, year, vector = features(items(), [11, 13, 17])
    assert year.values.ravel().tolist() == [0, -1, 1, 0]  # padding and what is unknown are the mean
    np.testing.assert_allclose(vector.values, [[0, 0], [-1, 0], [1, 0], [0, 0]])


def test_other_items_keep_vocabulary_and_scale():
    known = features(items(), [11, 13])
    new = pl.DataFrame({"item": ["23"], "genres": [["z", "y"]], "year": [2006.0], "vector": [[2.0, 6.0]]})
    genres, year, vector = more(known, new, ["23"])
    assert genres.values.tolist() == [[0], [2]]  # z is new
    assert year.values.ravel().tolist() == [0, 2]
    assert vector.values[1].tolist() == [0, 1]


def test_what_was_saved_is_loaded(tmp_path):
    known = features(items(), [11, 13, 17])
    save(known, tmp_path)
    again = load(tmp_path)
    assert [feature.facts() for feature in again] == [feature.facts() for feature in known]
    for one, other in zip(again, known, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    assert load(tmp_path / "elsewhere") == ()


def test_says_what_is_wrong(tmp_path):
    known = features(items(), [11, 13])
    with pytest.raises(InputError, match="the table of items has no year; it has item, genres"):
        more(known, items().select("item", "genres"), [11])
    with pytest.raises(InputError, match="holds genres as Float64, the model knows it in another form"):
        more(known, items().with_columns(genres=pl.lit(1.0)), [11])
    with pytest.raises(InputError, match=r"vectors of \[1, 2\] numbers in vector"):
        features(items().with_columns(vector=pl.Series([[1.0], [1.0, 2.0], None])), [11, 13])
    save(known, tmp_path)
    (tmp_path / "feature-1.npy").unlink()
    with pytest.raises(InputError, match="delete the folder and prepare the data again"):
        load(tmp_path)
