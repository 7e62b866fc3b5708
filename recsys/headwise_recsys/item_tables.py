"""What is known of items and users, from the tables that stand beside events: titles for people, features for the model.

    MovieLens     movies.dat, movies.csv (genres, and the year in the title), u.item
    tables        items.parquet, items.csv, items.tsv and RecBole's .item, with an item column
    attributes    S3-Rec's NAME_item2attributes.json: {"item": [attribute, ...]}

and of users, where one is named, MovieLens' users.dat and u.user, or a table as those of items, with a user column.

Of a table, columns of text lists or of text with "|" between are many tags an item, of other text one tag, of numbers a number,
of lists of numbers a vector. RecBole's types (genre:token_seq, year:float) are kept to. Text of which most items have their
own, as descriptions are, is no feature.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from headwise.errors import InputError, NotFound
from headwise_recsys.columns import NAMES, find, ids

if TYPE_CHECKING:
    import polars as pl

BESIDE = {"ratings": ("movies.dat", "movies.csv"), "u.data": ("u.item",)}  # by how the name of the events file begins
USUAL = ("items.parquet", "items.csv", "items.tsv", "{stem}.item", "{stem}_item2attributes.json")
PEOPLE = {  # separator, fields, and which of them are categories
    "users.dat": ("::", ("user", "gender", "age", "occupation", "zip"), ("gender", "age", "occupation")),
    "u.user": ("|", ("user", "age", "gender", "occupation", "zip"), ("gender", "occupation")),
}
SEPARATORS = {".user": "\t", ".csv": ",", ".tsv": "\t", ".item": "\t"}
TITLE = ("title", "name", "movietitle", "itemname", "productname")
LISTED = "|"  # between the values of one field
FEW = 0.5  # distinct texts an item, above which a column is a description
COUNTED = 20  # distinct values up to which they are tags, whole numbers too


def beside(events: Path) -> Path | None:
    """The table of items that belongs to a file of events; None where there is none."""
    names = [name for start, own in BESIDE.items() if events.name.startswith(start) for name in own]
    names += [name.format(stem=events.stem) for name in USUAL]
    return next((events.with_name(name) for name in names if events.with_name(name).is_file()), None)


def users_beside(events: Path, name: str) -> Path:
    """The table of users of that name that stands beside a file of events.

    Raises:
        NotFound: there is none.
    """
    file = events.with_name(name)
    if not file.is_file():
        raise NotFound(f"{file}: there is no such table of users beside the events; name one that is there, or none")
    return file


def read_users(file: Path) -> "pl.DataFrame":
    """A row a user: `user` as in events, and a column a feature, as of items.

    Raises:
        InputError: the file cannot be read, has no user column, or names a user twice.
    """
    if file.name in PEOPLE:
        separator, names, tags = PEOPLE[file.name]
        frame = _fields(file, separator, names, "user")
        # Codes are categories, however many there are; a code of a place has too many.
        kinds = {name: _feature(frame[name], "token" if name in tags else "float") for name in names[1:-1]}
        frame = frame.select("user").with_columns(**kinds)
    else:
        frame = _table(file, "user")
    return _once(frame, file, "user")


def read_items(file: Path) -> "pl.DataFrame":
    """A row an item: `item` as in events, `title` where titles are known, and a column a feature.

    Tags are List(String), numbers Float64 and vectors List(Float64); null where unknown.

    Raises:
        InputError: the file cannot be read, has no item column, or names an item twice.
    """
    if file.name == "movies.dat":
        frame = _movies(_fields(file, "::", ("item", "title", "genres")))
    elif file.name == "u.item":
        frame = _u_item(file)
    elif file.suffix == ".json":
        frame = _attributes(file)
    else:
        frame = _table(file)
        if file.name == "movies.csv":
            frame = _movies(frame)
    return _once(frame, file, "item")


def _once(frame: "pl.DataFrame", file: Path, of: str) -> "pl.DataFrame":
    twice = frame.filter(frame[of].is_duplicated())
    if len(twice):
        raise InputError(f"{file}: {of} {twice[of][0]!r} stands there more than once; keep one row of it")
    return frame


def _movies(frame: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    year = pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Float64)
    genres = [_split("genres", LISTED)] if frame.schema.get("genres") == pl.String else []
    return frame.with_columns(*genres, year=year)


def _u_item(file: Path) -> "pl.DataFrame":
    import polars as pl

    names = file.with_name("u.genre")
    genres = [line.partition("|")[0] for line in _text(names).splitlines() if line] if names.is_file() else []
    width = len(_text(file).partition("\n")[0].split("|"))
    head = ("item", "title", "date", "video", "link")[:width]
    genres = (genres + [f"genre {number}" for number in range(len(genres), width)])[: width - len(head)]
    frame = _fields(file, "|", (*head, *genres))
    marks = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in genres]
    marked = {"genres": pl.concat_list(marks).list.drop_nulls()} if marks else {}
    return _movies(frame.select("item", "title", **marked))


def _attributes(file: Path) -> "pl.DataFrame":
    import polars as pl

    try:
        known = json.loads(_text(file))
        tags = [[str(tag) for tag in own] for own in known.values()]
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f'{file}: is not {{"item": [attribute, ...]}} ({error}); correct it') from error
    items = ids(pl.Series(list(known), dtype=pl.String), f"{file}, item")
    return pl.DataFrame({"item": items, "attributes": pl.Series(tags, dtype=pl.List(pl.String))})


def _table(file: Path, of: str = "item") -> "pl.DataFrame":
    import polars as pl

    try:
        if file.suffix == ".parquet":
            frame = pl.read_parquet(file)
        else:
            frame = pl.read_csv(file, separator=SEPARATORS.get(file.suffix, ","), infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{file}: cannot be read ({str(error).partition(chr(10))[0]}); correct the file") from error
    own = find(frame.columns, NAMES[of])
    if own is None:
        raise InputError(f"{file}: no {of} column; sought {', '.join(NAMES[of])}; found {', '.join(frame.columns)}")
    columns = {of: ids(frame[own], f"{file}, column {own!r}")}
    title = find([name for name in frame.columns if name != own], TITLE) if of == "item" else None
    if title is not None:
        columns["title"] = frame[title].cast(pl.String)
    for name in frame.columns:
        if name not in (own, title):
            plain, _, kind = name.partition(":")
            feature = _feature(frame[name], kind)
            if feature is not None:
                columns[plain] = feature
    return pl.DataFrame(columns).filter(pl.col(of).is_not_null())


def _feature(values: "pl.Series", kind: str) -> "pl.Series | None":
    import polars as pl

    if values.dtype in (pl.List, pl.Array):
        values = values.cast(pl.List(values.dtype.inner))  # type: ignore[attr-defined]
        numbers = values.dtype.inner.is_numeric()  # type: ignore[attr-defined]
        return values.cast(pl.List(pl.Float64 if numbers else pl.String))
    text = values.cast(pl.String).str.strip_chars().replace("", None)
    numbers = text.cast(pl.Float64, strict=False)
    if kind == "float_seq":
        return text.str.split(" ").list.eval(pl.element().cast(pl.Float64))
    if kind == "token_seq":
        return text.str.split(" ")
    if kind != "token" and (kind == "float" or _is_quantity(text, numbers)):
        return numbers
    if kind == "" and text.str.contains(LISTED, literal=True).any():
        return text.str.split(LISTED)
    if kind == "" and text.n_unique() > max(COUNTED, FEW * len(text)):
        return None
    return text.to_frame().select(pl.concat_list(pl.all())).to_series().list.drop_nulls()


def _is_quantity(text: "pl.Series", numbers: "pl.Series") -> bool:
    if not text.count() or numbers.null_count() > text.null_count():
        return False
    whole = bool((numbers == numbers.round()).all())
    return not whole or text.n_unique() > COUNTED


def _split(name: str, separator: str) -> "pl.Expr":
    import polars as pl

    return pl.col(name).str.split(separator).list.eval(pl.element().filter(pl.element() != ""))


def _fields(file: Path, separator: str, names: tuple[str, ...], of: str = "item") -> "pl.DataFrame":
    import polars as pl

    rows = [line.rstrip("\r").split(separator) for line in _text(file).split("\n") if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise InputError(f"{file}, line {number}: has {len(row)} fields, {len(names)} are needed; correct it")
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return frame.with_columns(ids(frame[of], f"{file}, {of}"))


def _text(file: Path) -> str:
    raw = file.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")  # the older MovieLens sets
