"""Who interacted with what, in time order: three arrays and the ids they stand for.

A prepared folder holds

    items.npy       int32 [events]    1..V, each user's events in time order, users one after another
    times.npy       int64 [events]    seconds since 1970; absent where the source has no times
    types.npy       int16 [events]    1..T, what was done with the item; absent where no column was named that tells
    types.json      the names of these; type t is the t-th
    offsets.npy     int64 [users+1]   user u owns events offsets[u] : offsets[u+1]
    user_ids.json   item_ids.json     the source's own ids; item i is item_ids[i-1]
    titles.json     aligned with item_ids, null where unknown; absent where none is known
    user-features.json   user-feature-N.npy   the same of users, where a table of them was named
    features.json   feature-N.npy   what else is known of items, see `headwise_recsys.item_features`; absent where nothing is
    meta.json       name, fingerprint, source, counts: written for people, checked on reading

Index 0 is padding and never occurs here. Reading needs numpy alone and maps the arrays instead of loading them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError, NotFound
from headwise.files import replacing
from headwise_recsys import item_features
from headwise_recsys.ids import Id

META = "meta.json"
USER = "user-"  # what the names of the files about users begin with
REMEDY = "delete the folder and prepare the data again"


@dataclass(frozen=True, eq=False)
class Interactions:
    """Events of all users; `items` and `offsets` alone are enough to train on.

    Attributes:
        items: int32 [events], 1..V, each user's events in time order.
        times: int64 [events] in seconds, or None where the source has none.
        offsets: int64 [users + 1]; user u owns events `offsets[u]` to `offsets[u + 1]`.
        user_ids: the source's id of each user.
        item_ids: the source's id of each item; `item_ids[i - 1]` is item i.
        titles: for people, aligned with `item_ids`; None where no title is known.
        name: of the data set, for people.
        fingerprint: SHA-256 of the source files and of the options they were read with.
        source: the file that was read.
        min_count: users and items with fewer events in the source were left out.
        features: of items, one row an item, row 0 for padding.
        user_features: of users, one row a user from 1, row 0 for nobody known.
        types: int16 [events], 1..T, what was done with each item; None where that is not told apart.
        type_names: the source's name of each; type t is `type_names[t - 1]`.
    """

    items: NDArray[np.int32]
    times: NDArray[np.int64] | None
    offsets: NDArray[np.int64]
    user_ids: list[Id]
    item_ids: list[Id]
    titles: list[str | None] | None
    name: str
    fingerprint: str
    source: str
    min_count: int = 1
    features: tuple[item_features.Feature, ...] = ()
    user_features: tuple[item_features.Feature, ...] = ()
    types: NDArray[np.int16] | None = None
    type_names: tuple[str, ...] = ()

    @property
    def users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    @property
    def item_count(self) -> int:
        """Number of items V; the largest item index."""
        return len(self.item_ids)

    @property
    def events(self) -> int:
        """Number of events of all users."""
        return len(self.items)


def save(data: Interactions, folder: Path) -> None:
    """Write a prepared folder, whole or not at all; one that was there before is replaced."""
    with replacing(folder) as draft:
        draft.mkdir()
        np.save(draft / "items.npy", data.items.astype(np.int32, copy=False))
        np.save(draft / "offsets.npy", data.offsets.astype(np.int64, copy=False))
        if data.times is not None:
            np.save(draft / "times.npy", data.times.astype(np.int64, copy=False))
        if data.types is not None:
            np.save(draft / "types.npy", data.types.astype(np.int16, copy=False))
            _write(draft / "types.json", data.type_names)
        _write(draft / "user_ids.json", data.user_ids)
        _write(draft / "item_ids.json", data.item_ids)
        if data.titles is not None:
            _write(draft / "titles.json", data.titles)
        if data.features:
            item_features.save(data.features, draft)
        if data.user_features:
            item_features.save(data.user_features, draft, USER)
        _write(draft / META, _facts(data) | {"name": data.name, "fingerprint": data.fingerprint, "source": data.source})


def load(folder: Path) -> Interactions:
    """The interactions of a prepared folder, its arrays mapped from disk and read-only.

    Raises:
        NotFound: it is not a prepared folder.
        InputError: a file is missing, cannot be read or does not fit the others.
    """
    if not (folder / META).is_file():
        raise NotFound(f"{folder}: not a prepared folder, it has no {META}; prepare the data first")
    meta = _read(folder / META)
    try:
        data = Interactions(
            items=_map(folder / "items.npy", np.int32),
            times=_map(folder / "times.npy", np.int64) if (folder / "times.npy").exists() else None,
            offsets=_map(folder / "offsets.npy", np.int64),
            user_ids=_read(folder / "user_ids.json"),
            item_ids=_read(folder / "item_ids.json"),
            titles=_read(folder / "titles.json") if (folder / "titles.json").exists() else None,
            name=meta["name"],
            fingerprint=meta["fingerprint"],
            source=meta["source"],
            min_count=meta["min_count"],
            features=item_features.load(folder),
            user_features=item_features.load(folder, USER),
            types=_map(folder / "types.npy", np.int16) if (folder / "types.npy").exists() else None,
            type_names=tuple(_read(folder / "types.json")) if (folder / "types.npy").exists() else (),
        )
    except KeyError as error:
        raise InputError(f"{folder / META}: has no {error}; {REMEDY}") from error
    _check(folder, data, meta)
    return data


def _facts(data: Interactions) -> dict[str, int]:
    return {
        "events": data.events,
        "users": data.users,
        "items": data.item_count,
        "min_count": data.min_count,
    }


def _check(folder: Path, data: Interactions, meta: dict[str, Any]) -> None:
    for key, value in _facts(data).items():
        if meta.get(key) != value:
            raise InputError(f"{folder / META}: says {meta.get(key)} {key}, the other files hold {value}; {REMEDY}")
    fits = {
        "offsets.npy": len(data.offsets) == data.users + 1 and data.offsets[-1] == data.events,
        "times.npy": data.times is None or len(data.times) == data.events,
        "types.npy": data.types is None or _tells(data.types, data.events, len(data.type_names)),
        "titles.json": data.titles is None or len(data.titles) == data.item_count,
        item_features.FILE: all(len(feature.values) == data.item_count + 1 for feature in data.features),
        USER + item_features.FILE: all(len(feature.values) == data.users + 1 for feature in data.user_features),
        "items.npy": not data.events or (data.items.min() >= 1 and data.items.max() <= data.item_count),
    }
    for name, fit in fits.items():
        if not fit:
            raise InputError(f"{folder / name}: does not fit the other files of the folder; {REMEDY}")


def _tells(types: NDArray[np.int16], events: int, names: int) -> bool:
    return len(types) == events and (not events or (types.min() >= 1 and types.max() <= names))


def _map(path: Path, dtype: type[np.generic]) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {REMEDY}") from error
    if array.dtype != dtype or array.ndim != 1:
        raise InputError(f"{path}: {array.ndim}-d {array.dtype}, 1-d {np.dtype(dtype)} was needed; {REMEDY}")
    return array


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {REMEDY}") from error
