from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise.errors import InputError, NotFound
from headwise_speech.decoding import HotWords, parse_hotwords, read_hotwords
from headwise_speech.decoding.hotwords import BOOST
from headwise_speech.text import Vocabulary

VOCABULARY = Vocabulary.of(["ABN"])
PHRASES = st.text("AB ", min_size=1, max_size=7).filter(str.strip).map(lambda text: " ".join(text.split()))
BOOSTS = st.dictionaries(PHRASES, st.floats(-2, 2), max_size=5)


def counted(text: str, boosts: dict[str, float]) -> float:
    ends = [at for at, letter in enumerate(f" {text}") if letter == " "]
    return sum(
        boost * len(phrase.replace(" ", "")) * sum(f" {text} ".startswith(f" {phrase} ", at) for at in ends)
        for phrase, boost in boosts.items()
    )


def told(hot: HotWords, text: str) -> list[float]:
    """What each letter and word end adds, in order; the last is the end of the text."""
    gains, state = [], hot.start
    for number, word in enumerate(text.split()):
        if number:
            gain, state = hot.edge(state)
            gains.append(gain)
        for letter in word:
            gain, state = hot.step(state, letter)
            gains.append(gain)
    return [*gains, hot.close(state)]


def test_a_phrase_is_lent_letter_by_letter_and_given_at_its_end() -> None:
    hot = HotWords({"ab b": 0.5}, VOCABULARY)
    assert told(hot, "AB B") == pytest.approx([0.5, 0.5, 0, 0.5, 0])
    assert told(hot, "AB A") == pytest.approx([0.5, 0.5, 0, -1.0 + 0.5, -0.5])  # A may begin it anew
    assert told(hot, "ABB") == pytest.approx([0.5, 0.5, -1.0, 0])
    assert told(hot, "AB") == pytest.approx([0.5, 0.5, -1.0])
    assert told(hot, "AB BA") == pytest.approx([0.5, 0.5, 0, 0.5, -1.5, 0])


def test_words_within_words_are_none() -> None:
    hot = HotWords({"B": 1.0}, VOCABULARY)
    assert [hot.score(text) for text in ("B", "AB", "BA", "ABA", "A B", "B B B", "")] == [1, 0, 0, 0, 1, 3, 0]


def test_phrases_that_overlap_count_each() -> None:
    hot = HotWords({"A B": 1.0, "B": 0.5, "B A": 0.25, "A B A": 2.0}, VOCABULARY)
    assert hot.score("A B A") == pytest.approx(2 + 0.5 + 0.5 + 6)


@given(BOOSTS, st.text("AB ", max_size=23).map(lambda text: " ".join(text.split())))
def test_a_text_is_worth_its_phrases_and_nothing_else(boosts: dict[str, float], text: str) -> None:
    hot = HotWords(boosts, VOCABULARY)
    want = pytest.approx(counted(text, boosts), abs=1e-9)
    assert hot.score(text) == want
    if text:
        assert sum(told(hot, text)) == want


@given(BOOSTS, st.text("AB ", max_size=23).map(lambda text: " ".join(text.split())))
def test_no_more_is_lent_than_a_phrase_is_worth(boosts: dict[str, float], text: str) -> None:
    hot = HotWords(boosts, VOCABULARY)
    most = max([0.0, *(boost * len(phrase) for phrase, boost in boosts.items())])
    state = hot.start
    for letter in text:
        state = hot.step(state, letter)[1]
        assert -most - 1e-9 <= hot.close(state) - hot.edge(state)[0] <= 0.0


def test_letters_may_come_together() -> None:
    hot = HotWords({"BAN": 0.7}, VOCABULARY)
    first, state = hot.step(hot.start, "BA")
    second, state = hot.step(state, "N")
    assert (first, second) == pytest.approx((1.4, 0.7))
    assert hot.step(hot.start, "BAN") == (pytest.approx(2.1), state)


def test_a_file_of_phrases(tmp_path: Path) -> None:
    path = tmp_path / "hot.txt"
    path.write_text("\ufeffab ba\n\n  Ban\t2.5\nnab\t-1\n", encoding="utf-8")
    assert read_hotwords(path) == {"ab ba": BOOST, "Ban": 2.5, "nab": -1.0}
    assert HotWords(read_hotwords(path), VOCABULARY).words == ["AB", "BA", "BAN", "NAB"]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hotwords, line 2: boost 'much' is not a number"):
        parse_hotwords("AB\nBA\tmuch")
    with pytest.raises(NotFound, match=r"none.txt: no such file of hot words"):
        read_hotwords(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes("CAF\xc9".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin.txt: not UTF-8"):
        read_hotwords(tmp_path / "latin.txt")
    with pytest.raises(InputError, match=r"'C' is not among the recogniser's characters"):
        HotWords({"CAB": 1.0}, VOCABULARY)
    with pytest.raises(InputError, match=r"hot words: '!' has no words"):
        HotWords({"!": 1.0}, VOCABULARY)
    with pytest.raises(InputError, match=r"the boost of 'ab' is 251 a letter; it can be -250 to 250"):
        HotWords({"ab": 251.0}, VOCABULARY)
    with pytest.raises(InputError, match=r"the boost of 'ab' is nan a letter"):
        HotWords({"ab": float("nan")}, VOCABULARY)
    with pytest.raises(InputError, match=r"1001 phrases, at most 1000"):
        HotWords({"A" * length: 0.0 for length in range(1, 1002)}, VOCABULARY)
