"""What is known of a user as one row of numbers, from prepared features or from a request. NumPy alone.

A category takes a column, which holds 1 / the user's categories of that feature if the user belongs to it; a number takes one
with its value on the scale of the data. A linear map of the row is then the sum of what each feature says, as of items: the mean
vector of the tags, and a linear map of the numbers. Whatever is unknown is 0 and says nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError
from headwise_recsys.item_features import Feature, Numbers, Tags

Rows = NDArray[np.float32]


def size(features: Sequence[Feature]) -> int:
    """Numbers of a row."""
    return sum(len(each.vocabulary) if isinstance(each, Tags) else len(each.mean) for each in features)


def rows(features: Sequence[Feature], users: NDArray[np.integer]) -> Rows:
    """The rows of some users [users, size], from 1; 0 is nobody known."""
    parts = [
        _spread(each.values[users], len(each.vocabulary)) if isinstance(each, Tags) else each.values[users]
        for each in features
    ]
    joined: Rows = np.concatenate(parts, axis=1, dtype=np.float32)
    return joined


def row(features: Sequence[Feature], given: Mapping[str, Any]) -> Rows:
    """The row of a user of whom a request tells something [size]; a category that the model does not know says nothing.

    Raises:
        InputError: a feature has no such name, or its value is of another kind.
    """
    if unknown := given.keys() - {each.name for each in features}:
        known = ", ".join(each.name for each in features)
        raise InputError(
            f"user: {', '.join(sorted(unknown))} is nothing that this model knows of users, which is {known}"
        )
    parts = [
        _tags(each, given.get(each.name)) if isinstance(each, Tags) else _numbers(each, given.get(each.name))
        for each in features
    ]
    [joined] = np.concatenate(parts, axis=1, dtype=np.float32)
    found: Rows = joined
    return found


def told(features: Sequence[Feature], user: int) -> dict[str, Any]:
    """What prepared features know of a user, as a request tells it."""
    given: dict[str, Any] = {}
    for each in features:
        if isinstance(each, Tags):
            given[each.name] = [each.vocabulary[tag - 1] for tag in each.values[user].tolist() if tag]
        else:
            given[each.name] = (each.values[user] * each.deviation + each.mean).tolist()
    return given


def _spread(tags: NDArray[np.integer], categories: int) -> Rows:
    spread = np.zeros((len(tags), categories + 1), np.float32)
    np.put_along_axis(spread, tags.astype(np.int64), 1, axis=1)
    spread = spread[:, 1:]
    shares: Rows = spread / np.maximum(spread.sum(axis=1, keepdims=True), 1)
    return shares


def _tags(feature: Tags, given: Any) -> Rows:
    several = given if isinstance(given, list) else [] if given is None else [given]
    names = [str(int(each)) if isinstance(each, float) and each.is_integer() else str(each) for each in several]
    numbers = [feature.vocabulary.index(name) + 1 for name in names if name in feature.vocabulary]
    return _spread(np.array([numbers or [0]]), len(feature.vocabulary))


def _numbers(feature: Numbers, given: Any) -> Rows:
    several = given if isinstance(given, list) else [given]
    if given is None:
        several = list(feature.mean)
    if len(several) != len(feature.mean) or not all(isinstance(each, int | float) for each in several):
        needed = "a number is" if len(feature.mean) == 1 else f"{len(feature.mean)} numbers are"
        raise InputError(f"user: {feature.name} is {given!r}, {needed} needed; correct it, or leave it out")
    scaled = (np.array([several], np.float64) - feature.mean) / feature.deviation
    return scaled.astype(np.float32)
