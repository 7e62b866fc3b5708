import numpy as np
import pytest

from headwise.errors import InputError, NotFound
from headwise_recsys.interactions import Interactions, load, save


def small(times=True, titles=True):
    return Interactions(
        items=np.array([2, 1, 3, 3, 2], np.int32),
        times=np.array([10, 20, 20, 5, 7], np.int64) if times else None,
        offsets=np.array([0, 3, 5], np.int64),
        user_ids=["ann", "ben"],
        item_ids=[7, 11, 13],
        titles=["Fünf", None, "Drei"] if titles else None,
        name="small",
        fingerprint="f" * 64,
        source="there/small.csv",
        min_count=1,
    )


@pytest.mark.parametrize("known", [True, False])
def test_what_is_saved_is_loaded(tmp_path, known):
    data = small(times=known, titles=known)
    save(data, tmp_path / "small")
    back = load(tmp_path / "small")
    assert (back.users, back.item_count, back.events) == (2, 3, 5)
    np.testing.assert_array_equal(back.items, data.items)
    np.testing.assert_array_equal(back.offsets, data.offsets)
    assert (back.times is None) is not known
    assert (back.user_ids, back.item_ids, back.titles) == (data.user_ids, data.item_ids, data.titles)
    assert (back.name, back.fingerprint, back.source, back.min_count) == ("small", "f" * 64, "there/small.csv", 1)


def test_arrays_are_mapped_and_read_only(tmp_path):
    save(small(), tmp_path / "small")
    with pytest.raises(ValueError, match="read-only"):
        load(tmp_path / "small").items[0] = 3


def test_saving_again_replaces(tmp_path):
    save(small(), tmp_path / "small")
    save(small(times=False, titles=False), tmp_path / "small")
    assert load(tmp_path / "small").times is None
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_another_folder_is_not_found(tmp_path):
    with pytest.raises(NotFound, match=r"not a prepared folder, it has no meta\.json"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("items.npy", np.array([2, 1, 3, 3, 4], np.int32), r"items\.npy: does not fit"),
        ("items.npy", np.array([2, 1, 3, 3, 2], np.int64), r"items\.npy: 1-d int64, 1-d int32 was needed"),
        ("items.npy", np.array([2, 1, 3], np.int32), r"says 5 events, the other files hold 3"),
        ("offsets.npy", np.array([0, 3, 4], np.int64), r"offsets\.npy: does not fit"),
        ("times.npy", np.array([1], np.int64), r"times\.npy: does not fit"),
        ("titles.json", "[]", r"titles\.json: does not fit"),
        ("item_ids.json", "[7, ", r"item_ids\.json: cannot be read"),
        ("meta.json", "{}", r"meta\.json: has no 'name'"),
    ],
)
def test_a_damaged_folder_names_the_file(tmp_path, file, content, message):
    save(small(), tmp_path / "small")
    path = tmp_path / "small" / file
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        np.save(path, content)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "small")


def test_a_missing_array_is_named(tmp_path):
    save(small(), tmp_path / "small")
    (tmp_path / "small" / "offsets.npy").unlink()
    with pytest.raises(InputError, match=r"offsets\.npy: cannot be read"):
        load(tmp_path / "small")
