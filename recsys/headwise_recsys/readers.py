"""Event tables from files in the forms that recommender data comes in, recognised by content.

    MovieLens     ratings.dat (user::item::rating::time), u.data (the same with tabs)
    sequences     "user item [item ...]" a line, in time order: one item a line is SASRec's form, all of them S3-Rec's
    tables        CSV, TSV, RecBole's .inter and Parquet, with user, item and time columns

Polars does the reading. A slow second look in plain Python happens only to say which line is wrong.
"""

import codecs
import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headwise.errors import InputError, NotFound
from headwise_recsys.columns import USUAL, Columns, as_ids, choose, clock, fits, seconds, whole
from headwise_recsys.item_tables import beside, read_items

if TYPE_CHECKING:  # reading needs polars, training on what was prepared does not
    import polars as pl

RATINGS = {"ratings.dat": "::", "u.data": "\t"}
PREFERRED = ("ratings.dat", "ratings.parquet", "ratings.csv", "ratings*.parquet", "ratings*.csv", "u.data", "*")
TABLES = (".csv", ".tsv", ".inter")
STREAMING: Final = "streaming"  # polars' engine that holds a part of a file at a time
SAMPLE = 100_000  # events that say how times are written
TAB = "\t"
WHOLE_LINE = "\x1f"  # a separator that text does not hold makes each line one field
KNOWN = (
    "known are MovieLens ratings.dat and u.data, text lines of `user item [item ...]`, "
    "and CSV, TSV or Parquet with user and item columns"
)


@dataclass(frozen=True, eq=False)
class Events:
    """What was read.

    Attributes:
        scan: one row an event in file order: `user` and `item` as whole numbers or text; where the source has times, `time` as
            float64 seconds since 1970; where a column was named for it, `event`. It was looked through, and is read again by
            whoever collects it, so that files may be larger than memory.
        items: what is known of items, see `headwise_recsys.item_tables`; None where no table of them stands beside.
    """

    scan: "pl.LazyFrame"
    items: "pl.DataFrame | None"


def sources(path: Path, columns: Columns = USUAL) -> tuple[Path, ...]:
    """The files that `read(path, columns)` reads: the events first, then the table of items if there is one.

    Args:
        path: a file, or a folder. In a folder ratings.dat is preferred, then ratings as Parquet or CSV, then u.data, then
            the only file that holds events.
        columns: names of the columns of a table.

    Raises:
        NotFound: there is no such path.
        InputError: the folder holds no events, or several files that do.
    """
    file = _only_events_file(path, columns) if path.is_dir() else path
    if not file.is_file():
        raise NotFound(f"{path}: no such file or folder; give a file of events or the folder it is in")
    items = beside(file)
    return (file,) if items is None else (file, items)


def read(path: Path, columns: Columns = USUAL) -> Events:
    """The events of a file or folder, in file order.

    Args:
        path: see `sources`.
        columns: names of the columns of a table; by default the usual ones are recognised.

    Raises:
        NotFound: there is no such path.
        InputError: the file is empty, is in no known form, is not UTF-8 or lacks a column; or a line is malformed, has no
            user or item, or a time that is none. Names the first such line and how many more there are.
    """
    file, *items = sources(path, columns)
    return Events(_recognise(file, columns)(), read_items(items[0]) if items else None)


def _only_events_file(folder: Path, columns: Columns) -> Path:
    for pattern in PREFERRED:
        found = sorted(p for p in folder.glob(pattern) if p.is_file() and _holds_events(p, columns))
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{folder}: {', '.join(p.name for p in found)} all hold events; name one of them")
    raise InputError(f"{folder}: no file of events in it; {KNOWN}")


def _holds_events(file: Path, columns: Columns) -> bool:
    if file.name.startswith("."):
        return False
    try:
        reader = _recognise(file, columns)
    except InputError:  # another file of the folder: a README, a table of items
        return False
    # Any text looks like a user and items, so among other files only whole numbers count.
    return reader.func is not _sequences or all(word.isdecimal() for word in _first_line(file).split())


def _recognise(file: Path, columns: Columns) -> "partial[pl.LazyFrame]":
    if file.stat().st_size == 0:
        raise InputError(f"{file}: is empty")
    with file.open("rb") as opened:
        if opened.read(4) == b"PAR1":
            return partial(_parquet, file, columns)
    line = _first_line(file)
    for name, separator in RATINGS.items():
        fields = line.split(separator)
        if file.name == name or (len(fields) == 4 and fields[3].isdecimal()):
            return partial(_ratings, file, separator)
    for separator in ",\t;|":
        if fits(next(csv.reader([line], delimiter=separator)), columns):
            return partial(_table, file, separator, columns)
    separator, words = max(",\t;|", key=line.count), line.split()
    if columns != USUAL or file.suffix in TABLES or (separator in line and not all(map(str.isdecimal, words))):
        choose(next(csv.reader([line], delimiter=separator)), columns, file)  # says what is missing
    if len(words) < 2:
        raise InputError(f"{file}, line 1: {_short(line)} is in no known form; {KNOWN}")
    return partial(_sequences, file)


def _first_line(file: Path) -> str:
    with file.open("rb") as opened:
        line = opened.readline(1 << 16)  # enough to recognise it; a character may be cut at the end
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(line).rstrip("\r\n")
    except UnicodeDecodeError:
        raise _not_utf8(file, 1) from None


def _parquet(file: Path, columns: Columns) -> "pl.LazyFrame":
    import polars as pl

    def unreadable(error: Exception) -> InputError:
        return InputError(f"{file}: cannot be read as Parquet ({_reason(error)}); write the file again")

    scan = pl.scan_parquet(file)
    try:
        chosen = choose(scan.collect_schema().names(), columns, file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unreadable(error) from error
    raw = scan.select(**{role: pl.col(name) for role, name in chosen.items()}).with_row_index("row")
    return _events(raw, file, chosen, lambda row: f"row {row + 1}", unreadable)


def _table(file: Path, separator: str, columns: Columns) -> "pl.LazyFrame":
    import polars as pl

    def unreadable(error: Exception) -> InputError:
        return _explained(file, separator, error)

    scan = pl.scan_csv(file, separator=separator, infer_schema=False)
    try:
        chosen = choose(scan.collect_schema().names(), columns, file)
    except pl.exceptions.PolarsError as error:
        raise unreadable(error) from error
    # Looking at every column, not only those needed, is what makes polars count the fields of every line.
    filled = pl.any_horizontal(pl.all().is_not_null())
    raw = scan.select(filled=filled, **{role: pl.col(name) for role, name in chosen.items()}).with_row_index("row")
    return _events(
        raw.filter("filled"), file, chosen, lambda row: f"line {_record(file, separator, row + 1)[0]}", unreadable
    )


def _ratings(file: Path, separator: str) -> "pl.LazyFrame":
    import polars as pl

    def unreadable(error: Exception) -> InputError:
        return _explained(file, WHOLE_LINE, error)

    names = ["user", "item", "rating", "time", "more"]
    parts = pl.col("line").str.split_exact(separator, 4).struct.rename_fields(names)
    raw = _lines(file).with_columns(parts=parts).unnest("parts")
    needed = f"user, item, rating and time with {'tabs' if separator == TAB else separator} between"
    _refuse(file, raw.filter(pl.col("time").is_null() | pl.col("more").is_not_null()), needed, unreadable)
    return _events(
        raw, file, {role: role for role in ("user", "item", "time")}, lambda row: f"line {row + 1}", unreadable
    )


def _sequences(file: Path) -> "pl.LazyFrame":
    import polars as pl

    pairs = _pairs(file)
    if pairs is not None:
        return pairs

    def unreadable(error: Exception) -> InputError:
        return _explained(file, WHOLE_LINE, error)

    raw = _lines(file).with_columns(words=pl.col("line").str.extract_all(r"\S+"))
    words = pl.col("words").list
    _refuse(file, raw.filter(words.len() < 2), "a user and at least one item", unreadable)
    last = words.last().cast(pl.Float64, strict=False).fill_null(0)
    looks = raw.select(least=words.len().min(), most=words.len().max(), late=(last > 1e8).all()).collect(
        engine=STREAMING
    )
    least, most, late = looks.row(0)
    if least == most and most in (3, 4) and late:
        raise InputError(
            f"{file}: every line ends in what looks like a time, which `user item [item ...]` does not have; "
            "write it as CSV with the header user,item,timestamp"
        )
    events = raw.select("row", user=words.first(), item=words.slice(1)).explode("item")
    return _events(events, file, {"user": "user", "item": "item"}, lambda row: f"line {row + 1}", unreadable)


def _pairs(file: Path) -> "pl.LazyFrame | None":
    # One item a line, which the reader of tables reads in half the time; anything else is left to the reader of lines.
    import polars as pl

    fields = re.fullmatch(r"\S+([ \t])\S+", _first_line(file))
    if fields is None:
        return None
    scan = pl.scan_csv(
        file,
        has_header=False,
        separator=fields[1],
        quote_char=None,
        infer_schema=False,
        new_columns=["user", "item"],
    )
    try:
        return _events(scan.with_row_index("row"), file, {"user": "user", "item": "item"}, str, InputError)
    except InputError:
        return None


def _lines(file: Path) -> "pl.LazyFrame":
    import polars as pl

    scan = pl.scan_csv(
        file, has_header=False, separator=WHOLE_LINE, quote_char=None, infer_schema=False, new_columns=["line"]
    )
    return scan.with_row_index("row").filter(pl.col("line").str.strip_chars() != "")


def _events(
    raw: "pl.LazyFrame",
    file: Path,
    chosen: dict[str, str],
    where: Callable[[int], str],
    unreadable: Callable[[Exception], InputError],
) -> "pl.LazyFrame":
    import polars as pl

    try:
        categories = pl.col(pl.Categorical, pl.Enum).cast(pl.String)
        clean = raw.select("row", *chosen).with_columns(categories)
        clean = clean.with_columns(pl.col(pl.String).str.strip_chars().replace("", None))
        kinds = clean.collect_schema()
        named = {role: f"{file}, column {name!r}" for role, name in chosen.items() if role != "time"}
        parsed, facts = {}, {"events": pl.len()}
        if "time" in chosen:
            told = clock(clean.select("time").head(SAMPLE).collect()["time"])
            parsed["time"] = pl.col("time").map_batches(
                partial(seconds, told=told), return_dtype=pl.Float64, is_elementwise=True
            )
            facts["no time"] = parsed["time"].null_count()
        for role, name in named.items():
            facts |= {f"no {role}": pl.col(role).null_count(), f"whole {role}": whole(role, kinds[role], name)}
        found = clean.select(**facts).collect(engine=STREAMING).row(0, named=True)
        for role, name in named.items():
            parsed[role] = as_ids(role, kinds[role], bool(found[f"whole {role}"]), name)
        if not found["events"]:
            raise InputError(f"{file}: has no events")
        for role, name in chosen.items():
            if found[f"no {role}"]:
                raise _missing(clean, file, role, name, parsed[role], where, found[f"no {role}"])
    except pl.exceptions.PolarsError as error:
        raise unreadable(error) from error
    return clean.select(**{role: parsed[role] for role in chosen})


def _missing(
    clean: "pl.LazyFrame",
    file: Path,
    role: str,
    name: str,
    parsed: "pl.Expr",
    where: Callable[[int], str],
    count: int,
) -> InputError:
    import polars as pl

    first = clean.select("row", value=pl.col(role), parsed=parsed).filter(pl.col("parsed").is_null()).head(1).collect()
    row, value, _ = first.row(0)
    what = f"no {role}" if value is None else f"{value!r} is not a time"
    remedy = "use seconds since 1970 or dates as 2024-05-31T10:00:00" if role == "time" else "complete or remove it"
    return InputError(f"{file}, {where(row)}, column {name!r}: {what}{_more(count - 1)}; {remedy}")


def _refuse(file: Path, wrong: "pl.LazyFrame", needed: str, unreadable: Callable[[Exception], InputError]) -> None:
    import polars as pl

    try:
        first = wrong.select(pl.first("row", "line"), count=pl.len()).collect(engine=STREAMING)
    except pl.exceptions.PolarsError as error:
        raise unreadable(error) from error
    row, line, count = first.row(0)
    if count:
        more = _more(count - 1)
        raise InputError(f"{file}, line {row + 1}: {_short(line)} is not {needed}{more}; correct or remove it")


def _explained(file: Path, separator: str, error: Exception) -> InputError:
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return _not_utf8(file, number)
    try:
        width = len(_record(file, separator, 0)[1])
        wrong = [(line, fields) for line, fields in _records(file, separator) if len(fields) > width]
    except csv.Error as unreadable:
        return InputError(f"{file}: cannot be read ({unreadable}); correct its quotes")
    if not wrong or separator == WHOLE_LINE:
        return InputError(f"{file}: cannot be read ({_reason(error)}); correct the file")
    number, fields = wrong[0]
    return InputError(
        f"{file}, line {number}: {_short(separator.join(fields))} has {len(fields)} fields, the header {width}"
        f"{_more(len(wrong) - 1)}; correct it or put quotes around fields with {separator!r}"
    )


def _records(file: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.reader(opened, delimiter=separator)
        for fields in reader:
            yield reader.line_num, fields


def _record(file: Path, separator: str, index: int) -> tuple[int, list[str]]:
    return next(record for number, record in enumerate(_records(file, separator)) if number == index)


def _not_utf8(file: Path, number: int) -> InputError:
    return InputError(
        f"{file}, line {number}: not UTF-8 text; save the file as UTF-8, or unpack it if it is compressed"
    )


def _more(count: int) -> str:
    return f", and {count} more like it" if count else ""


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0]
