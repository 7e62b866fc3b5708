import numpy as np
import pytest

from headwise_speech.decoding import Decoder, Hypothesis
from headwise_speech.rescoring import Rescorer, TwoPass, padded
from headwise_speech.text import BLANK, Vocabulary

VOCABULARY = Vocabulary((BLANK, " ", "A", "B"))
FOUND = [
    Hypothesis("A", -3.0, acoustic=-2.0),
    Hypothesis("B A", -4.0, acoustic=-5.0),
    Hypothesis("", -4.0, acoustic=-4.0),
]


def by_length(encoded: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Thinks -10 of a text, +4 for every token that it has, times the one number of the utterance."""
    return (encoded[0, 0] * (4.0 * (tokens > 0).sum(1) - 10)).astype(np.float32)


def rescorer(weight: float) -> Rescorer:
    return Rescorer(by_length, VOCABULARY, weight)


def test_scores_by_hand() -> None:
    # The decoder thinks -6 of A, +2 of B A, -10 of nothing.
    judged = rescorer(0.25)(FOUND, np.ones((1, 1)))
    assert [each.text for each in judged] == ["B A", "A", ""]
    assert [each.score for each in judged] == [-4 + (2 + 5) / 4, -3 + (-6 + 2) / 4, -4 + (-10 + 4) / 4]
    assert [each.acoustic for each in judged] == [-5, -2, -4]


def test_without_weight_the_beam_is_right() -> None:
    assert rescorer(0.0)(FOUND, np.ones((1, 1))) == FOUND


def test_rows_are_padded_to_the_longest_but_never_empty() -> None:
    assert padded([[3], [2, 1, 2], []]).tolist() == [[3, 0, 0], [2, 1, 2], [0, 0, 0]]
    assert padded([[]]).tolist() == [[0]]


@pytest.fixture
def log_probs() -> np.ndarray:
    return np.log(np.array([[0.1, 0.1, 0.5, 0.3], [0.4, 0.1, 0.2, 0.3], [0.6, 0.1, 0.2, 0.1]]))


def test_the_second_pass_chooses_among_what_the_first_found(log_probs: np.ndarray) -> None:
    decoder = Decoder("open", VOCABULARY)
    first = TwoPass(decoder)
    assert first(log_probs, np.ones((3, 1))).text == decoder(log_probs).text == "A"
    both = TwoPass(decoder, rescorer(0.5))
    candidates = {each.text for each in decoder.nbest(log_probs, count=8)}
    assert both(log_probs, np.ones((3, 1))).text == max(candidates, key=lambda text: len(VOCABULARY.encode(text)))
    assert both(log_probs).text == "A"  # nothing to judge by


def test_the_best_of_many_is_what_a_call_answers(log_probs: np.ndarray) -> None:
    both = TwoPass(Decoder("open", VOCABULARY), rescorer(0.5))
    best = both.nbest(log_probs, np.ones((3, 1)), count=3)
    assert len(best) == 3
    assert best[0] == both(log_probs, np.ones((3, 1)))
