import itertools

import numpy as np
import pytest

from headwise_speech.decoding import greedy
from headwise_speech.text import BLANK, Vocabulary

VOCABULARY = Vocabulary.of(["AB"])  # <blank>, space, A, B


def one_hot(tokens: list[int]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.eye(len(VOCABULARY), dtype=np.float32)[tokens])


def test_by_hand() -> None:
    # a a _ a sp sp _ b: repeats merge, then blanks go, so "AA B".
    rows = one_hot([2, 2, 0, 2, 1, 1, 0, 3])
    assert greedy(rows, VOCABULARY).text == "AA B"
    assert greedy(rows, VOCABULARY).score == 0.0
    assert greedy(rows, VOCABULARY, frames=3).text == "A"
    assert greedy(rows[:0], VOCABULARY).text == ""
    assert greedy(one_hot([1, 2, 1, 0, 1, 3, 1]), VOCABULARY).text == "A B"


def test_it_scores_its_alignment() -> None:
    rows = np.log(np.random.default_rng(0).dirichlet(np.ones(4), 7))
    heard = greedy(rows, VOCABULARY)
    assert heard.score == heard.acoustic == pytest.approx(rows.max(axis=1).sum())


@pytest.mark.parametrize(("tokens", "text"), [([1, 1, 2, 0, 2], "AB C C"), ([0, 3, 3], "D"), ([2, 3, 1], "C D AB")])
def test_words_need_no_space(tokens: list[int], text: str) -> None:
    words = Vocabulary((BLANK, " AB", " C", " D"))
    assert greedy(np.log(np.eye(4)[tokens] + 1e-9), words).text == text


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 5\): \[frames, 4\] is needed"):
        greedy(np.zeros((3, 5)), VOCABULARY)
    with pytest.raises(ValueError, match="frame 1 holds NaN"):
        greedy(np.array([[0.0] * 4, [np.nan] * 4]), VOCABULARY)


def test_merging_is_that_of_ctc() -> None:
    for alignment in itertools.product(range(4), repeat=4):
        merged = [token for token, _ in itertools.groupby(alignment)]
        spelled = "".join(VOCABULARY.tokens[token] for token in merged if token)
        assert greedy(one_hot(list(alignment)), VOCABULARY).text == " ".join(spelled.split())
