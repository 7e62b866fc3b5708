"""From a table of items to their features: categories become numbers, numbers are put on one scale."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError
from headwise_recsys.ids import Id
from headwise_recsys.item_features import Feature, Numbers, Tags

if TYPE_CHECKING:
    import polars as pl


def features(table: "pl.DataFrame", items: Sequence[Id], of: Literal["item", "user"] = "item") -> tuple[Feature, ...]:
    """The features of `items`, in their order, from a table of items; those that are known of none are left out.

    Args:
        table: see `headwise_recsys.item_tables`.
        items: the ids; those that the table does not hold have unknown features.
        of: what the table is about; everything said of items here holds of users as well.

    Raises:
        InputError: the vectors of a column differ in length.
    """
    rows = _aligned(table, items, of)
    known = [name for name in rows.columns if name not in (of, "title") and rows[name].count()]
    return tuple(_feature(rows[name]) for name in known)


def more(known: Sequence[Feature], table: "pl.DataFrame", items: Sequence[Id]) -> tuple[Feature, ...]:
    """The features of other items on the scale and with the vocabulary of `known`; a new category is an unknown one.

    Raises:
        InputError: the table lacks a feature, or holds it in another form.
    """
    rows = _aligned(table, items)
    for feature in known:
        if feature.name not in rows.columns:
            raise InputError(f"the table of items has no {feature.name}; it has {', '.join(rows.columns)}")
    return tuple(_like(feature, rows[feature.name]) for feature in known)


def titles(table: "pl.DataFrame", items: Sequence[Id]) -> list[str | None] | None:
    """The titles of `items`; None where the table has none."""
    return _aligned(table, items)["title"].to_list() if "title" in table.columns else None


def _aligned(table: "pl.DataFrame", items: Sequence[Id], of: str = "item") -> "pl.DataFrame":
    import polars as pl

    wanted = pl.DataFrame({of: items})
    if wanted[of].dtype != table[of].dtype:
        wanted, table = (frame.with_columns(pl.col(of).cast(pl.String)) for frame in (wanted, table))
    return wanted.join(table, on=of, how="left", maintain_order="left")


def _feature(values: "pl.Series") -> Feature:
    import polars as pl

    if values.dtype == pl.List(pl.String):
        return _tags(values, tuple(values.explode().drop_nulls().unique().sort().to_list()))
    matrix = _matrix(values, values.name)
    mean, deviation = np.nanmean(matrix, 0), np.nanstd(matrix, 0)
    deviation[~(deviation > 0)] = 1
    return _numbers(values.name, matrix, np.nan_to_num(mean), deviation)


def _like(feature: Feature, values: "pl.Series") -> Feature:
    import polars as pl

    if isinstance(feature, Tags) != (values.dtype == pl.List(pl.String)):
        raise InputError(
            f"the table of items holds {feature.name} as {values.dtype}, the model knows it in another form"
        )
    if isinstance(feature, Tags):
        return _tags(values, feature.vocabulary)
    matrix = _matrix(values, feature.name)
    if matrix.shape[1] != len(feature.mean):
        raise InputError(
            f"the table of items holds {feature.name} of {matrix.shape[1]} numbers, the model knows {len(feature.mean)}"
        )
    return _numbers(feature.name, matrix, np.array(feature.mean), np.array(feature.deviation))


def _tags(values: "pl.Series", vocabulary: tuple[str, ...]) -> Tags:
    number = {tag: place for place, tag in enumerate(vocabulary, 1)}
    rows = [[number[tag] for tag in dict.fromkeys(own or ()) if tag in number] for own in values.to_list()]
    most = max((len(row) for row in rows), default=0) or 1
    padded = np.zeros((len(rows) + 1, most), np.int32)
    for place, row in enumerate(rows, 1):
        padded[place, : len(row)] = row
    return Tags(values.name, vocabulary, padded)


def _numbers(
    name: str, matrix: NDArray[np.float64], mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> Numbers:
    scaled = np.nan_to_num((matrix - mean) / deviation)
    values = np.concatenate([np.zeros((1, matrix.shape[1])), scaled]).astype(np.float32)
    return Numbers(name, tuple(mean.tolist()), tuple(deviation.tolist()), values)


def _matrix(values: "pl.Series", name: str) -> NDArray[np.float64]:
    import polars as pl

    if values.dtype != pl.List(pl.Float64):
        return values.cast(pl.Float64).fill_null(np.nan).to_numpy()[:, None].astype(np.float64)
    lengths = set(values.list.len().drop_nulls().to_list())
    if len(lengths) != 1:
        raise InputError(
            f"the table of items holds vectors of {sorted(lengths)} numbers in {name}; make them of one length"
        )
    unknown = [np.nan] * lengths.pop()
    return np.array([unknown if own is None else own for own in values.to_list()], np.float64)
