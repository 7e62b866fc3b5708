import numpy as np
import pytest

from headwise_recsys.interactions import Interactions
from headwise_recsys.splits import Queries


def made(*rows, items, times=None):
    """Each row is one user's events."""
    flat = np.array([item for row in rows for item in row], np.int32)
    return Interactions(
        items=flat,
        times=None if times is None else np.array(times, np.int64),
        offsets=np.cumsum([0, *(len(row) for row in rows)]),
        user_ids=list(range(len(rows))),
        item_ids=list(range(items)),
        titles=None,
        name="made",
        fingerprint="",
        source="made.csv",
    )


def last_of_each(data):
    """Every user's last event, after all before it."""
    last = data.offsets[1:] - 1
    return Queries(data.offsets[:-1], last, last)


@pytest.fixture(scope="session")
def interactions():
    return made


@pytest.fixture(scope="session")
def asking_last():
    return last_of_each
