import gzip
import math
from pathlib import Path

import pytest

from headwise.errors import InputError, NotFound
from headwise_speech.decoding import kneser_ney, read_arpa, write_arpa

ARPA = """
made by hand, and this line is no part of it

\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99\t<s>\t-0.5
-1.0\t</s>
-0.5\tA\t-0.25
-0.75 B
\\2-grams:
-0.125\t<s> A
-0.25\tA B

\\end\\
"""
TEN = math.log(10)


def test_a_file_by_hand(tmp_path: Path) -> None:
    (tmp_path / "hand.arpa").write_text(ARPA)
    ngram = read_arpa(tmp_path / "hand.arpa")
    assert (ngram.order, ngram.words, len(ngram)) == (2, ("<s>", "</s>", "A", "B"), 6)
    assert ngram.score(["A", "B"]) == pytest.approx((-0.125 - 0.25 - 1.0) * TEN)
    assert ngram.score(["B"]) == pytest.approx((-0.5 - 0.75 - 1.0) * TEN)


@pytest.mark.parametrize("name", ["all.arpa", "all.arpa.gz"])
def test_what_is_written_is_read_again_bit_for_bit(tmp_path: Path, name: str) -> None:
    ngram = kneser_ney([list("ABBA"), list("BAD"), list("ABACUS")], 4)
    write_arpa(ngram, tmp_path / name)
    again = read_arpa(tmp_path / name)
    assert again.words == ngram.words
    for order in range(1, 5):
        for table, want in zip(again.table(order), ngram.table(order), strict=True):
            assert table.tolist() == want.tolist()
    before = (tmp_path / name).read_bytes()
    assert before.startswith(b"\x1f\x8b") == name.endswith(".gz")
    write_arpa(again, tmp_path / name)
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data", "line 18: the file ends, and no line of it is \\data\\"),
        ("ngram 2=2", "ngram 3=2", "line 6: 'ngram 3=2' where the number of 2-grams should stand"),
        ("ngram 1=4\nngram 2=2", "", "line 7: '\\1-grams:' where 'ngram 1=' and a number should stand"),
        ("\\1-grams:", "", "line 9: '-99\t<s>\t-0.5' where \\1-grams: should stand"),
        ("-0.75 B\n", "", "line 12: '\\2-grams:' is no 1-gram, of which the header counts 4"),
        ("-0.75 B", "-0.75 A", "line 12: 'A' stands there twice"),
        ("\tA B", "\tA C", "line 15: 'C' is not among the 1-grams"),
        ("\tA B", "\t<s> A", "line 15: 2-gram '<s> A': it stands there twice"),
        ("-0.25\tA B", "-x\tA B", "line 15: '-x A B' has no logarithm of a probability where one should stand"),
        ("-0.25\tA B", "nan\tA B", "line 15: 'nan A B' has no logarithm of a probability where one should stand"),
        ("-0.25\tA B", "-0.25\tA B\t-1", "line 15: '-0.25 A B -1' is no 2-gram"),
        ("-0.25\tA B", "", "line 17: '\\end\\' is no 2-gram"),
        ("\\end\\", "", "line 18: '' where \\end\\ should stand"),
        ("\\2-grams:", "\\3-grams:", "line 13: '\\3-grams:' where \\2-grams: should stand"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ARPA
    path = tmp_path / "wrong.arpa"
    path.write_text(ARPA.replace(old, new))
    with pytest.raises(InputError) as error:
        read_arpa(path)
    assert str(error.value).startswith(f"{path}, {message}")


def test_a_beginning_that_was_not_kept_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pruned.arpa"
    path.write_text(ARPA.replace("ngram 2=2", "ngram 2=2\nngram 3=1").replace("\\end", "\\3-grams:\n-1 B A B\n\\end"))
    with pytest.raises(InputError, match="line 19: 3-gram 'B A B': its beginning is not among the shorter ones"):
        read_arpa(path)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none.arpa: no such language model"):
        read_arpa(tmp_path / "none.arpa")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(ARPA.encode())[:-20])
    with pytest.raises(InputError, match=r"cut.gz: cannot be read as text"):
        read_arpa(tmp_path / "cut.gz")
    (tmp_path / "latin.arpa").write_bytes(ARPA.replace("B", "\xc9").encode("latin-1"))
    with pytest.raises(InputError, match=r"latin.arpa: cannot be read as text"):
        read_arpa(tmp_path / "latin.arpa")
