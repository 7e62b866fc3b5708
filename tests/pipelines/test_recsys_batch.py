"""Recommendations for everybody, by the hand-made model after whose item n the items n+1, n+2, ... follow."""

import polars as pl
import pytest

from headwise.errors import InputError, NotFound
from headwise_pipelines.recsys import batch
from headwise_pipelines.recsys.batch import recommend_all

# The catalogue is 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151.
EVENTS = {"ada": [101, 103], "bob": [113, 999, 107], "cyd": [999, 998], "dee": [151], "eve": [149, 151, 127]}


@pytest.fixture(name="events")
def events_fixture(tmp_path):
    rows = [f"{user},{item},{place}" for user, items in EVENTS.items() for place, item in enumerate(items)]
    path = tmp_path / "events.csv"
    path.write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    return path


@pytest.fixture(name="ask")
def ask_fixture(recommender_folder, events, tmp_path):
    def ask(out="lists.parquet", k=2, **changed):
        options = {"k": k, "work": tmp_path / "work"} | changed
        return recommend_all(str(recommender_folder), events, tmp_path / out, **options)

    return ask


def lists(path):
    table = pl.read_parquet(path)
    assert table.columns == ["user", "rank", "item", "score"]
    found = {}
    for user, rank, item, _ in table.rows():
        found.setdefault(user, []).append(item)
        assert rank == len(found[user])
    return found


def test_everybody_gets_the_next_items_that_they_have_not_seen(ask, tmp_path):
    answer = ask()
    # The catalogue is a circle; what follows is by the last item that the model knows.
    assert lists(tmp_path / "lists.parquet") == {
        "ada": [107, 109],
        "bob": [109, 127],
        "dee": [101, 103],
        "eve": [131, 137],
    }
    assert answer | {"users": 5, "answered": 4, "k": 2} == answer
    scores = pl.read_parquet(tmp_path / "lists.parquet").filter(pl.col("user") == "bob")["score"]
    assert scores.to_list() == pytest.approx([1, 1 / 3])
    assert {path.name for path in tmp_path.iterdir()} == {"events.csv", "work", "lists.parquet"}


@pytest.mark.parametrize("users", [1, 2, 3, 7])
def test_in_parts_it_is_the_same(ask, tmp_path, monkeypatch, users):
    ask("whole.parquet")
    monkeypatch.setattr(batch, "USERS", users)
    ask("parts.parquet")
    assert pl.read_parquet(tmp_path / "parts.parquet").equals(pl.read_parquet(tmp_path / "whole.parquet"))


def test_what_was_stopped_goes_on_where_it_was(ask, tmp_path, monkeypatch, capsys):
    ask("whole.parquet")
    monkeypatch.setattr(batch, "USERS", 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    part, made = batch.Batch.part, []

    def stopped(self, number):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(number)
        return part(self, number)

    monkeypatch.setattr(batch.Batch, "part", stopped)
    with pytest.raises(KeyboardInterrupt):
        ask(at=7)
    assert not (tmp_path / "lists.parquet").exists()

    made.clear()
    monkeypatch.setattr(batch.Batch, "part", lambda self, number: made.append(number) or part(self, number))
    ask(k=3, out="other.parquet", at=7)  # another question takes nothing of it
    assert len(made) == 5
    made.clear()
    ask(at=7)
    assert made == [3, 4]
    assert "continued: 3 of 5 parts are there" in capsys.readouterr().err
    assert pl.read_parquet(tmp_path / "lists.parquet").equals(pl.read_parquet(tmp_path / "whole.parquet"))


def test_a_part_that_was_half_written_is_made_again(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "USERS", 2)

    def full(self, *_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_parquet", full)
        with pytest.raises(OSError, match="no space left"):
            ask()
    [hidden] = [path for path in tmp_path.iterdir() if path.name.startswith(".lists")]
    assert not list(hidden.iterdir())
    ask()
    assert lists(tmp_path / "lists.parquet")["eve"] == [131, 137]


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"out": "lists.csv"}, InputError, "lists.csv: a name that ends with .parquet is needed"),
        ({"out": "events.parquet"}, InputError, "events.parquet: exists already"),
        ({"k": 0}, InputError, "k is 0"),
    ],
)
def test_what_cannot_be_asked(ask, tmp_path, changed, error, message):
    (tmp_path / "events.parquet").touch()
    with pytest.raises(error, match=message):
        ask(**changed)


def test_events_of_unknown_items_alone_are_no_question(recommender_folder, tmp_path):
    (tmp_path / "other.csv").write_text("user,item,timestamp\na,1,1\n")
    with pytest.raises(InputError, match="knows none of its 1 items"):
        recommend_all(str(recommender_folder), tmp_path / "other.csv", tmp_path / "o.parquet", k=2, work=tmp_path)
    with pytest.raises(NotFound):
        recommend_all(str(recommender_folder), tmp_path / "none.csv", tmp_path / "o.parquet", k=2, work=tmp_path)
