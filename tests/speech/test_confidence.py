import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise_speech.alignment import WordFrames, word_frames
from headwise_speech.confidence import confidences, in_place
from headwise_speech.decoding import Hypothesis, PrefixBeam
from headwise_speech.text import BLANK, Vocabulary

WORDS = st.lists(st.sampled_from("ABC"), max_size=7)


def test_by_hand() -> None:
    words = [WordFrames("A", 0, 1, 0.5), WordFrames("B", 2, 3, 0.8), WordFrames("C", 4, 5, 1.0)]
    hypotheses = [
        Hypothesis(text, float(np.log(p)), 0.0) for text, p in (("A B C", 0.5), ("A C", 0.25), ("B B C", 0.25))
    ]
    assert confidences(words, hypotheses) == pytest.approx([0.75 * 0.5, 0.75 * 0.8, 1.0])
    assert confidences([], hypotheses) == []


@pytest.mark.parametrize(
    ("words", "others", "same"),
    [
        ("A B C", "A B C", [1, 1, 1]),
        ("A B C", "A C", [1, 0, 1]),
        ("A B C", "A A B C", [1, 1, 1]),
        ("A B C", "C", [0, 0, 1]),
        ("A B", "", [0, 0]),
        ("A B A B", "B A", [0, 1, 1, 0]),
        ("A X B", "A Y B", [1, 0, 1]),
    ],
)
def test_words_in_place_by_hand(words: str, others: str, same: list[int]) -> None:
    assert in_place(words.split(), others.split()) == list(map(bool, same))


@given(WORDS, WORDS)
def test_words_in_place_are_a_common_part(words: list[str], others: list[str]) -> None:
    kept = [word for word, same in zip(words, in_place(words, others), strict=True) if same]
    rest = iter(others)
    assert all(word in rest for word in kept)
    assert in_place(words, words) == [True] * len(words)


def test_what_is_clear_is_surer_than_what_is_not() -> None:
    vocabulary = Vocabulary((BLANK, " ", "A", "B"))
    rows = np.log(np.array([[0.01, 0.01, 0.97, 0.01], [0.01, 0.97, 0.01, 0.01], [0.1, 0.05, 0.35, 0.5]]))
    found = PrefixBeam(vocabulary).nbest(rows, count=5)
    assert found[0].text == "A B"
    clear, vague = confidences(word_frames(rows, "A B", vocabulary), found)
    assert 0.0 < vague < 0.5 < 0.8 < clear < 1.0
