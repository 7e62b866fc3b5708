import numpy as np
import pytest

from headwise.errors import InputError
from headwise_speech.metrics import character_error_rate, word_counts, word_error_rate

REFERENCES = ["ONE TWO THREE", "GO", "", "YES NO"]
HYPOTHESES = ["one too three four", "", "UH", "YES, NO!"]


def test_by_hand():
    score = word_error_rate(REFERENCES, HYPOTHESES)
    # TWO -> TOO, FOUR inserted; GO deleted; UH inserted; case and punctuation do not count.
    assert (score.hits, score.substitutions, score.deletions, score.insertions) == (4, 1, 1, 2)
    assert (score.errors, score.reference, score.utterances) == (4, 6, 4)
    assert score.rate == pytest.approx(4 / 6)
    assert score.low <= score.rate <= score.high
    assert str(score).endswith("4/6 (1 sub, 1 del, 2 ins)")


def test_characters_by_hand():
    score = character_error_rate(["AB C", ""], ["AXB D", "E"])
    assert (score.hits, score.substitutions, score.deletions, score.insertions) == (3, 1, 0, 2)
    assert score.rate == pytest.approx(3 / 4)


def test_rows_of_counts_sum_to_the_corpus():
    counts = word_counts(REFERENCES, HYPOTHESES)
    np.testing.assert_array_equal(counts, [[2, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1], [2, 0, 0, 0]])


def test_silence():
    assert word_error_rate(["", ""], ["", ""]).rate == 0.0
    assert word_error_rate(["", ""], ["A B", "C"]).rate == 3.0
    assert word_error_rate(["A", "B C"], ["", ""]).rate == 1.0


def test_the_interval_is_seeded_and_covers_what_a_binomial_would():
    draw = np.random.default_rng(0)
    wrong = draw.random(499) < 0.2
    references, hypotheses = ["A"] * 499, ["B" if error else "A" for error in wrong]
    score = word_error_rate(references, hypotheses, seed=3)
    assert score == word_error_rate(references, hypotheses, seed=3)
    assert score.low != word_error_rate(references, hypotheses, seed=5).low
    half = 1.96 * np.sqrt(score.rate * (1 - score.rate) / 499)
    assert (score.high - score.low) / 2 == pytest.approx(half, rel=0.1)


def test_lengths_must_agree():
    with pytest.raises(InputError, match="2 references, 1 hypotheses"):
        word_error_rate(["A", "B"], ["A"])
    with pytest.raises(InputError, match="nothing to score"):
        word_error_rate([], [])
