import hashlib

import pytest

from headwise.files import fingerprint, replacing, sha256


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_at_the_end(tmp_path):
    target = tmp_path / "deep" / "er" / "model.json"
    with replacing(target) as draft:
        draft.write_text("new")
        assert not target.exists()
        assert draft.parent == target.parent  # the same file system: replacing is one system call
        assert draft.name.startswith(".model.json.")
    assert target.read_text() == "new"
    assert names(target.parent) == ["model.json"]


def test_a_file_is_replaced(tmp_path):
    target = tmp_path / "model.json"
    target.write_text("old")
    with replacing(target) as draft:
        draft.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("made", ["nothing", "file", "folder"])
def test_after_an_error_all_is_as_it_was(tmp_path, made):
    target = tmp_path / "model"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(target) as draft:  # noqa: PT012
        if made == "file":
            draft.write_text("half")
        if made == "folder":
            draft.mkdir()
            (draft / "half").write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("before", [None, "full", "empty"])
def test_a_folder_is_replaced_whole(tmp_path, before):
    target = tmp_path / "model"
    if before:
        target.mkdir()
    if before == "full":
        (target / "old.onnx").write_text("old")
    with replacing(target) as draft:
        draft.mkdir()
        (draft / "new.onnx").write_text("new")
    assert names(tmp_path) == ["model"]
    assert names(target) == ["new.onnx"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "old.onnx").write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(target) as draft:  # noqa: PT012
        draft.mkdir()
        raise KeyboardInterrupt
    assert names(tmp_path) == ["model"]
    assert names(target) == ["old.onnx"]


def test_two_writers_do_not_meet(tmp_path):
    target = tmp_path / "model.json"
    with replacing(target) as one, replacing(target) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert target.read_text() == "one"  # the outer block ends last
    assert names(tmp_path) == ["model.json"]


def test_says_when_nothing_was_written(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\.model\.json\."), replacing(tmp_path / "model.json"):
        pass


def test_sha256_by_hand(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_fingerprint_depends_on_names_bytes_and_order(tmp_path):
    first, second, elsewhere = tmp_path / "a", tmp_path / "b", tmp_path / "c" / "a"
    elsewhere.parent.mkdir()
    for path, text in [(first, b"one"), (second, b"two"), (elsewhere, b"one")]:
        path.write_bytes(text)
    both = fingerprint([first, second])
    digests = b"".join(n + hashlib.sha256(text).hexdigest().encode() for n, text in [(b"a", b"one"), (b"b", b"two")])
    assert both == hashlib.sha256(digests).hexdigest()
    assert fingerprint([elsewhere, second]) == both  # where the files lie is not part of it
    assert fingerprint([second, first]) != both
    second.write_bytes(b"Two")
    assert fingerprint([first, second]) != both
    assert fingerprint([]) == hashlib.sha256().hexdigest()
