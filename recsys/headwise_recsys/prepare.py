"""From files of events to a prepared folder, once: the second time it is found by its fingerprint."""

import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError
from headwise.files import fingerprint
from headwise_recsys.columns import USUAL, Columns
from headwise_recsys.interactions import META, Interactions, load, save
from headwise_recsys.item_features import features, titles
from headwise_recsys.readers import Events, read, sources

if TYPE_CHECKING:
    import polars as pl

LAYOUT = 2  # raised when the same source would be prepared differently, so that old folders are not taken for new ones
GENERIC = ("ratings", "u", "events", "interactions", "data")  # file names that say less than the folder's


def prepare(path: Path, folder: Path, *, min_count: int = 5, columns: Columns = USUAL) -> Interactions:
    """The interactions of a file or folder of events, prepared in a folder of their own inside `folder`.

    Users and items with fewer than `min_count` events in the source are left out, counted once, as SASRec's data were made:
    with 5, MovieLens 1M becomes 6,040 users, 3,416 items and 999,611 events. Users and items are numbered in the order of
    their ids, and each user's events sorted by time; events at the same time keep the file's order. Without times the
    file's order is the time order.

    Args:
        path: a file of events or the folder it is in, see `headwise_recsys.readers`; or a prepared folder, which is taken as
            it is and needs NumPy alone.
        folder: where prepared data are kept; the result lies in `folder/<name>-<fingerprint>`, whole or not at all.
        min_count: 1 keeps everything.
        columns: names of the columns of a table; by default the usual ones are recognised.

    Raises:
        InputError: the source cannot be read, or nothing is left of it.
    """
    if min_count < 1:
        raise InputError(f"min_count ({min_count}) must be at least 1")
    if (path / META).is_file():
        return load(path)
    files = sources(path, columns)
    options = {"layout": LAYOUT, "min_count": min_count, "columns": asdict(columns)}
    mark = sha256((fingerprint(files) + json.dumps(options, sort_keys=True)).encode()).hexdigest()
    name = _name(files[0])
    target = folder / f"{name}-{mark[:12]}"
    if not _is_whole(target):
        save(_interactions(read(path, columns), files[0], name, mark, min_count), target)
    return load(target)


def _is_whole(folder: Path) -> bool:
    try:
        load(folder)
    except InputError:  # not prepared yet, or damaged since
        return False
    return True


def _interactions(events: Events, file: Path, name: str, mark: str, min_count: int) -> Interactions:
    frame = _frequent(events.frame, file, min_count)
    user_ids, users = _numbered(frame["user"])
    item_ids, items = _numbered(frame["item"])
    times = frame["time"].to_numpy() if "time" in frame.columns else None
    order = np.lexsort((users,) if times is None else (times, users))  # stable: ties keep the file's order
    return Interactions(
        items=items[order].astype(np.int32),
        times=None if times is None else np.floor(times[order]).astype(np.int64),
        offsets=np.cumsum(np.bincount(users, minlength=len(user_ids) + 1)),
        user_ids=user_ids,
        item_ids=item_ids,
        titles=None if events.items is None else titles(events.items, item_ids),
        features=() if events.items is None else features(events.items, item_ids),
        name=name,
        fingerprint=mark,
        source=f"{file.resolve().parent.name}/{file.name}",
        min_count=min_count,
    )


def _frequent(frame: "pl.DataFrame", file: Path, min_count: int) -> "pl.DataFrame":
    import polars as pl

    frequent = frame.filter((pl.len().over("user") >= min_count) & (pl.len().over("item") >= min_count))
    if frequent.is_empty():
        raise InputError(f"{file}: min_count {min_count} leaves none of its {len(frame)} events; lower min_count")
    return frequent


def _numbered(ids: "pl.Series") -> tuple[list[int | str], NDArray[np.int64]]:
    return ids.unique().sort().to_list(), ids.rank("dense").to_numpy().astype(np.int64)


def _name(file: Path) -> str:
    generic = file.stem in GENERIC or file.stem.startswith("ratings")
    return file.resolve().parent.name if generic else file.stem
