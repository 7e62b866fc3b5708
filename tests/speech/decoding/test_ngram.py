import math

import numpy as np
import pytest

from headwise_speech.decoding import NGram
from headwise_speech.decoding.ngram import END, START, UNKNOWN, WrongGram

WORDS = [START, END, UNKNOWN, "A", "B"]
TEN = math.log(10)


def model(**changes: list[list[int]]) -> NGram:
    """Unigrams; A B and <s> A; <s> A B. B after A B was never kept, so it backs off twice."""
    rows = {"one": [[0], [1], [2], [3], [4]], "two": [[3, 4], [0, 3]], "three": [[0, 3, 4]], **changes}
    logs = {"one": [-99.0, -1.0, -2.0, -0.5, -0.75], "two": [-0.25, -0.125], "three": [-0.0625]}
    backs = {"one": [-0.5, 0, 0, -0.25, -0.375], "two": [-0.625, -0.875], "three": [0.0]}
    return NGram(
        WORDS,
        [np.array(rows[name], np.int64) for name in rows],
        [np.array(logs[name], np.float32)[: len(rows[name])] for name in rows],
        [np.array(backs[name], np.float32)[: len(rows[name])] for name in rows],
    )


def test_backing_off_by_hand() -> None:
    ngram = model()
    log_prob, state = ngram.step(ngram.start, "A")
    assert log_prob == pytest.approx(-0.125 * TEN)
    log_prob, state = ngram.step(state, "B")
    assert log_prob == pytest.approx(-0.0625 * TEN)
    log_prob, state = ngram.step(state, "B")  # P(B | A B) = backoff(A B) backoff(B) P(B)
    assert log_prob == pytest.approx((-0.625 - 0.375 - 0.75) * TEN)
    assert ngram.step(state, "NEW")[0] == pytest.approx((-0.375 - 2.0) * TEN)
    assert ngram.score(["A", "B"]) == pytest.approx((-0.125 - 0.0625 - 0.625 - 0.375 - 1.0) * TEN)
    assert ngram.perplexity([["A", "B"]]) == pytest.approx(10 ** ((0.125 + 0.0625 + 2.0) / 3))


def test_states_are_what_still_matters() -> None:
    ngram = model()
    after_a = ngram.step(ngram.step(0, "B")[1], "A")[1]  # B A was not kept, so only A matters
    assert after_a == ngram.step(0, "A")[1]
    assert len(ngram) == 8


def test_a_model_without_an_unknown_word_knows_none() -> None:
    closed = NGram(["A"], [np.array([[0]])], [np.zeros(1, np.float32)], [np.zeros(1, np.float32)])
    assert closed.step(closed.start, "B") == (-math.inf, 0)
    assert closed.step(closed.start, "A") == (0.0, 0)


def test_tables_give_back_what_was_put_in() -> None:
    rows, log_probs, backoffs = model().table(2)
    assert rows.tolist() == [[0, 3], [3, 4]]
    assert log_probs.tolist() == [-0.125, -0.25]
    assert backoffs.tolist() == [-0.875, -0.625]


def test_errors() -> None:
    with pytest.raises(WrongGram, match="3-gram 'B A B': its beginning is not among the shorter ones"):
        model(three=[[4, 3, 4]])
    with pytest.raises(WrongGram, match="2-gram 'A B': it stands there twice") as wrong:
        model(two=[[3, 4], [3, 4]])
    assert (wrong.value.order, wrong.value.row) == (2, 1)
