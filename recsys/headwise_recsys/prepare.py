"""From files of events to a prepared folder, once: the second time it is found by its fingerprint."""

import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from headwise.errors import InputError
from headwise.files import fingerprint
from headwise_recsys.columns import USUAL, Columns
from headwise_recsys.ids import Id
from headwise_recsys.interactions import META, Interactions, load, save
from headwise_recsys.item_encoding import features, titles
from headwise_recsys.item_tables import read_users, users_beside
from headwise_recsys.readers import Events, read, sources

if TYPE_CHECKING:
    import polars as pl

LAYOUT = 2  # raised when the same source would be prepared differently, so that old folders are not taken for new ones
STREAMING: Final = "streaming"  # polars' engine that holds a part of a file at a time
PART = 8_000_000  # events in memory at a time
MOST_TYPES = 1000  # of events
GENERIC = ("ratings", "u", "events", "interactions", "data")  # file names that say less than the folder's


def prepare(path: Path, folder: Path, *, min_count: int = 5, columns: Columns = USUAL, users: str = "") -> Interactions:
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
        users: name of a table of users beside the events; none where empty.

    Raises:
        InputError: the source cannot be read, or nothing is left of it.
    """
    if min_count < 1:
        raise InputError(f"min_count ({min_count}) must be at least 1")
    if (path / META).is_file():
        return load(path)
    files = sources(path, columns)
    people = [users_beside(files[0], users)] if users else []
    options = {"layout": LAYOUT, "min_count": min_count, "columns": columns.plain()}
    mark = sha256((fingerprint([*files, *people]) + json.dumps(options, sort_keys=True)).encode()).hexdigest()
    name = _name(files[0])
    target = folder / f"{name}-{mark[:12]}"
    if not _is_whole(target):
        events = read(path, columns)
        if columns.event is not None and "event" not in events.scan.collect_schema():
            raise InputError(
                f"{files[0]}: columns.event ({columns.event}) names a column, and this file has no header; leave it out"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=f".{target.name}-") as scratch:
            made = _interactions(events, files[0], name, mark, min_count, Path(scratch))
            for table in people:
                made = replace(made, user_features=features(read_users(table), made.user_ids, of="user"))
            save(made, target)
    return load(target)


def _is_whole(folder: Path) -> bool:
    try:
        load(folder)
    except InputError:  # not prepared yet, or damaged since
        return False
    return True


def _interactions(events: Events, file: Path, name: str, mark: str, min_count: int, scratch: Path) -> Interactions:
    log = _numbered(events.scan, file, min_count, scratch)
    items, times, types, offsets = _by_user(log, scratch)
    return Interactions(
        items=items,
        times=times,
        offsets=offsets,
        user_ids=log.user_ids,
        item_ids=log.item_ids,
        titles=None if events.items is None else titles(events.items, log.item_ids),
        features=() if events.items is None else features(events.items, log.item_ids),
        types=types,
        type_names=log.type_names,
        name=name,
        fingerprint=mark,
        source=f"{file.resolve().parent.name}/{file.name}",
        min_count=min_count,
    )


@dataclass(frozen=True, eq=False)
class _Log:
    """Events in file order, on disk, and what their numbers stand for: users from 0, items and types from 1."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.float64] | None
    types: NDArray[np.int16] | None
    user_ids: list[Id]
    item_ids: list[Id]
    type_names: tuple[str, ...]


def _numbered(scan: "pl.LazyFrame", file: Path, min_count: int, scratch: Path) -> _Log:
    import polars as pl

    scan.sink_ipc(scratch / "events.arrow", engine=STREAMING)
    events = pl.scan_ipc(scratch / "events.arrow")
    told = events.collect_schema()
    numbers = {role: _frequent(events, role, min_count) for role in ("user", "item")}
    columns: dict[str, type[np.generic]] = {"user_number": np.int32, "item_number": np.int32}
    if "time" in told:
        columns["time"] = np.float64
    if "event" in told:
        columns["event_number"] = np.int16
        numbers["event"] = _types(events, file)
    total = events.select(pl.len()).collect().item()
    with ExitStack() as open_files:
        files = {name: open_files.enter_context((scratch / name).open("wb")) for name in columns}
        for start in range(0, total, PART):
            part = events.slice(start, PART).collect()
            for role, known in numbers.items():
                part = part.join(known, on=role, how="inner", maintain_order="left")
            for name, kind in columns.items():
                part[name].to_numpy().astype(kind, copy=False).tofile(files[name])
    if not (scratch / "user_number").stat().st_size:
        raise InputError(f"{file}: min_count {min_count} leaves none of its {total} events; lower min_count")
    log = {name: np.memmap(scratch / name, kind, "r+") for name, kind in columns.items()}
    users, items = log["user_number"], log["item_number"]
    # A frequent user may have chosen nothing but rare items, and the other way round.
    user_ids = _without_gaps(users, numbers["user"]["user"].to_list())
    item_ids = _without_gaps(items, numbers["item"]["item"].to_list())
    items += 1
    names = tuple(map(str, numbers["event"]["event"])) if "event" in numbers else ()
    return _Log(users, items, log.get("time"), log.get("event_number"), user_ids, item_ids, names)


def _frequent(events: "pl.LazyFrame", role: str, min_count: int) -> "pl.DataFrame":
    import polars as pl

    counts = events.group_by(role).len().filter(pl.col("len") >= min_count)
    return counts.select(role).collect(engine=STREAMING).sort(role).with_row_index(f"{role}_number")


def _types(events: "pl.LazyFrame", file: Path) -> "pl.DataFrame":
    import polars as pl

    found = events.select(pl.col("event").unique().sort()).collect(engine=STREAMING)
    if len(found) > MOST_TYPES:
        raise InputError(
            f"{file}: the column of event types holds {len(found):,} different values, {MOST_TYPES} at most are types; name "
            "another column, or none"
        )
    return found.with_row_index("event_number", offset=1)


def _without_gaps(numbers: NDArray[np.int32], ids: list[Id]) -> list[Id]:
    there = np.zeros(len(ids), bool)
    for start in range(0, len(numbers), PART):
        there[numbers[start : start + PART]] = True
    if not there.all():
        again = np.cumsum(there, dtype=np.int32) - 1
        for start in range(0, len(numbers), PART):
            numbers[start : start + PART] = again[numbers[start : start + PART]]
    return [own for own, used in zip(ids, there.tolist(), strict=True) if used]


def _by_user(
    log: _Log, scratch: Path
) -> tuple[NDArray[np.int32], NDArray[np.int64] | None, NDArray[np.int16] | None, NDArray[np.int64]]:
    # A counting sort by user, a part at a time; then each user's events by time. Both are stable: ties keep the file's order.
    total, parts = len(log.users), range(0, len(log.users), PART)
    counts = np.zeros(len(log.user_ids), np.int64)
    for start in parts:
        counts += np.bincount(log.users[start : start + PART], minlength=len(counts))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    items = open_memmap(scratch / "items.npy", "w+", np.int32, (total,))
    times = None if log.times is None else np.memmap(scratch / "seconds", np.float64, "w+", shape=(total,))
    types = None if log.types is None else open_memmap(scratch / "types.npy", "w+", np.int16, (total,))
    free = offsets[:-1].copy()
    for start in parts:
        users = log.users[start : start + PART]
        order, own = np.argsort(users, kind="stable"), np.bincount(users, minlength=len(counts))
        ranked = users[order]
        place = free[ranked] + np.arange(len(ranked)) - (np.cumsum(own) - own)[ranked]
        items[place] = log.items[start : start + PART][order]
        if times is not None and log.times is not None:
            times[place] = log.times[start : start + PART][order]
        if types is not None and log.types is not None:
            types[place] = log.types[start : start + PART][order]
        free += own
    whole = None if times is None else _by_time(items, times, types, offsets, scratch)
    return items, whole, types, offsets


def _by_time(
    items: NDArray[np.int32],
    times: NDArray[np.float64],
    types: NDArray[np.int16] | None,
    offsets: NDArray[np.int64],
    scratch: Path,
) -> NDArray[np.int64]:
    whole = open_memmap(scratch / "times.npy", "w+", np.int64, times.shape)
    bounds = np.arange(0, offsets[-1] + PART, PART)
    edges = np.unique(np.searchsorted(offsets, bounds).clip(max=len(offsets) - 1))
    for first, last in pairwise(edges.tolist()):
        part = slice(int(offsets[first]), int(offsets[last]))
        users = np.repeat(np.arange(last - first), np.diff(offsets[first : last + 1]))
        order = np.lexsort((times[part], users))
        items[part] = items[part][order]
        if types is not None:
            types[part] = types[part][order]
        whole[part] = np.floor(times[part][order])
    return whole


def _name(file: Path) -> str:
    generic = file.stem in GENERIC or file.stem.startswith("ratings")
    return file.resolve().parent.name if generic else file.stem
