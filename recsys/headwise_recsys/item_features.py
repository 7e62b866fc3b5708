"""What the model is told of items, or of users, beside their ids: tags and numbers, as arrays with one row each.

Row 0 is padding, or somebody unknown. What is unknown of an item is 0 and counts for nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError

FILE = "features.json"


@dataclass(frozen=True, eq=False)
class Tags:
    """Categories that an item belongs to, one or several.

    Attributes:
        name: of the feature.
        vocabulary: the categories; number c stands for `vocabulary[c - 1]`.
        values: int32 [items + 1, most], the categories of each item, then 0.
    """

    name: str
    vocabulary: tuple[str, ...]
    values: NDArray[np.int32]

    def facts(self) -> dict[str, Any]:
        """All but the values."""
        return {"name": self.name, "kind": "tags", "vocabulary": list(self.vocabulary)}


@dataclass(frozen=True, eq=False)
class Numbers:
    """A number of each item, or a vector.

    Attributes:
        name: of the feature.
        mean: of the values in the source [size].
        deviation: their standard deviation [size].
        values: float32 [items + 1, size], with the mean taken off and divided by the deviation.
    """

    name: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    values: NDArray[np.float32]

    def facts(self) -> dict[str, Any]:
        """All but the values."""
        return {"name": self.name, "kind": "numbers", "mean": list(self.mean), "deviation": list(self.deviation)}


Feature: TypeAlias = Tags | Numbers


def save(known: Sequence[Feature], folder: Path, of: str = "") -> None:
    """Write features into a folder: their facts, and an array each.

    Args:
        known: the features.
        folder: where to.
        of: what the names of the files begin with; those of items with nothing.
    """
    for number, feature in enumerate(known):
        np.save(folder / f"{of}feature-{number}.npy", feature.values)
    text = json.dumps([feature.facts() for feature in known], ensure_ascii=False)
    (folder / f"{of}{FILE}").write_text(text + "\n", encoding="utf-8")


def load(folder: Path, of: str = "") -> tuple[Feature, ...]:
    """The features of a folder, mapped from disk; none where it holds none.

    Raises:
        InputError: a file is missing or damaged.
    """
    file = folder / f"{of}{FILE}"
    if not file.is_file():
        return ()
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        return tuple(_from(own, folder / f"{of}feature-{number}.npy") for number, own in enumerate(facts))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: cannot be read ({error}); delete the folder and prepare the data again") from error


def _from(facts: dict[str, Any], file: Path) -> Feature:
    return described(facts, np.load(file, mmap_mode="r", allow_pickle=False))


def described(facts: dict[str, Any], values: NDArray[Any]) -> Feature:
    """A feature from its facts and values."""
    if facts["kind"] == "tags":
        return Tags(facts["name"], tuple(facts["vocabulary"]), values)
    return Numbers(facts["name"], tuple(facts["mean"]), tuple(facts["deviation"]), values)
