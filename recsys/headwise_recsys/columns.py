"""What the columns of an event table mean: which is the user, the item and the time, and how their values are read.

Ids are whole numbers where every id of the column is one, and text otherwise, so that "007" stays "007". Times become
seconds since 1970.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headwise.errors import InputError

if TYPE_CHECKING:  # polars reads and prepares; training on what was prepared does without it
    import polars as pl

# In lower case without "_" and "-"; the first that a table has is taken.
NAMES = {
    "user": ("user", "userid", "uid", "reviewerid", "customerid", "visitorid", "customer"),
    "item": (
        "item",
        "itemid",
        "iid",
        "movieid",
        "productid",
        "sku",
        "parentasin",
        "asin",
        "articleid",
        "bookid",
        "product",
    ),
    "time": ("timestamp", "time", "unixreviewtime", "unixtime", "ts", "datetime", "eventtime", "date"),
    "event": (),
}
NEEDED = ("user", "item")
MILLISECONDS = 1e11  # as seconds, this is the year 5138
DATE = r"^\s*\d{4}-\d{2}-\d{2}"  # no other order: 01/02/2020 is January here and February there


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table; None takes the usual name.

    Attributes:
        user: who.
        item: what.
        time: when.
        event: what was done with the item, such as "view" or "buy"; None does not tell them apart, whatever columns there are.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    event: str | None = None

    def plain(self) -> dict[str, str | None]:
        """As plain values, without what an older version did not know and is not asked for."""
        return {name: given for name, given in asdict(self).items() if given is not None or name != "event"}


USUAL = Columns()


def choose(header: Sequence[str], columns: Columns, file: Path) -> dict[str, str]:
    """The column of a table for each of "user", "item" and, if the table has one, "time"; and "event" where it is named.

    Raises:
        InputError: there is no user or item column, or not the one that `columns` names.
    """
    chosen = {role: name for role in NAMES if (name := _find(header, role, columns)) is not None}
    for role in NAMES:
        given = getattr(columns, role)
        if role not in chosen and (given is not None or role in NEEDED):
            sought = repr(given) if given is not None else ", ".join(NAMES[role]) + " (in any case, with or without _)"
            found = ", ".join(map(repr, header))
            raise InputError(
                f"{file}: no {role} column; sought {sought}; found {found}; name the column that holds the {role}"
            )
    return chosen


def fits(header: Sequence[str], columns: Columns) -> bool:
    """Whether a table with this header holds events."""
    return all(_find(header, role, columns) is not None for role in NEEDED)


def ids(values: "pl.Series", where: str) -> "pl.Series":
    """The same ids as int64 where all are whole numbers in their shortest form, else as text; nulls stay.

    Raises:
        InputError: they are neither numbers nor text; `where` names the column.
    """
    import polars as pl

    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    frame, kind = values.to_frame(), values.dtype
    is_whole = bool(frame.select(whole(values.name, kind, where)).item())
    return frame.select(as_ids(values.name, kind, is_whole, where)).to_series()


def whole(column: str, kind: "pl.DataType", where: str) -> "pl.Expr":
    """Whether all ids of a column are whole numbers in their shortest form; nulls do not count.

    Raises:
        InputError: they are neither numbers nor text; `where` names the column.
    """
    import polars as pl

    values = pl.col(column)
    if kind.is_integer():
        return pl.lit(value=True)
    if kind != pl.String and not kind.is_float():
        raise InputError(f"{where}: ids are whole numbers or text, these are {kind}; convert the column")
    numbers = values.cast(pl.Int64, strict=False)
    # Floats too: a column of whole numbers with a gap is written as floats by pandas.
    return (numbers.null_count() == values.null_count()) & (numbers.cast(kind) == values).all()


def as_ids(column: str, kind: "pl.DataType", is_whole: bool, where: str) -> "pl.Expr":
    """The ids of a column of which `whole` has said whether they are whole numbers.

    Raises:
        InputError: they are numbers with fractions; `where` names the column.
    """
    import polars as pl

    if kind.is_float() and not is_whole:
        raise InputError(f"{where}: ids are whole numbers or text, these have fractions; convert the column")
    return pl.col(column).cast(pl.Int64) if is_whole and not kind.is_integer() else pl.col(column)


@dataclass(frozen=True)
class Clock:
    """How the times of a column are written.

    Attributes:
        dates: as ISO dates, in UTC where they name no zone; else as numbers.
        divisor: what makes seconds of the numbers.
    """

    dates: bool
    divisor: float


def clock(values: "pl.Series") -> Clock:
    """How times are written, of which these are some: as dates if most are, else by the median of the numbers."""
    import polars as pl

    if values.dtype == pl.String and values.str.contains(DATE).fill_null(False).sum() * 2 > len(values):
        return Clock(dates=True, divisor=1)
    middle = _numbers(values).to_frame().select(pl.all().abs().median()).item() or 0.0
    divisor = 1.0
    while middle / divisor >= MILLISECONDS:
        divisor *= 1000
    return Clock(dates=False, divisor=divisor)


def seconds(values: "pl.Series", told: Clock | None = None) -> "pl.Series":
    """Times as float64 seconds since 1970; null where a value is no time.

    Numbers are seconds, or milli-, micro- or nanoseconds if they are too large for that; dates are ISO (2024-05-31,
    2024-05-31T10:00:00Z), in UTC where they name no zone.

    Args:
        values: the times.
        told: how they are written; as they look where None.
    """
    import polars as pl

    told = clock(values) if told is None else told
    if values.dtype == pl.String and told.dates:
        dates = values.str.contains(DATE).fill_null(False)
        if not dates.any():
            return pl.Series(values.name, [None] * len(values), dtype=pl.Float64)
        values = values.set(~dates, None).str.strip_chars().str.to_datetime(strict=False, time_unit="us")
    if values.dtype in (pl.Date, pl.Datetime):
        return values.dt.epoch("us").cast(pl.Float64) / 1e6
    return _numbers(values) / told.divisor


def find(header: Sequence[str], names: Sequence[str]) -> str | None:
    """The column of a header that has the first of the usual `names`, in any case and with or without _; None for none."""
    plain = {_plain(name): name for name in reversed(header)}
    return next((plain[usual] for usual in names if usual in plain), None)


def _find(header: Sequence[str], role: str, columns: Columns) -> str | None:
    given: str | None = getattr(columns, role)
    if given is not None:
        return given if given in header else None
    return find(header, NAMES[role])


def _plain(name: str) -> str:
    # RecBole writes the type into the name: user_id:token
    return name.partition(":")[0].strip().lower().replace("_", "").replace("-", "")


def _numbers(values: "pl.Series") -> "pl.Series":
    import polars as pl

    if not (values.dtype.is_numeric() or values.dtype == pl.String):
        return pl.Series(values.name, [None] * len(values), dtype=pl.Float64)
    numbers = values.cast(pl.Float64, strict=False)
    return numbers.set(~numbers.is_finite(), None)
