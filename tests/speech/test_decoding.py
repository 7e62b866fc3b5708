import itertools
import json
import math
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

from headwise.errors import InputError
from headwise_speech.decoding import LexiconBeam, WordPairs, greedy
from headwise_speech.text import Vocabulary

VOCABULARY = Vocabulary.of(["AB"])  # <blank>, space, A, B


def log_probs(frames: int, seed: int, sharpness: float = 2.0, vocab: int = len(VOCABULARY)) -> np.ndarray:
    logits = sharpness * np.random.default_rng(seed).standard_normal((frames, vocab))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def one_hot(tokens: list[int]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.eye(len(VOCABULARY), dtype=np.float32)[tokens])


def text_of(alignment: tuple[int, ...]) -> str:
    return VOCABULARY.decode(token for token, _ in itertools.groupby(alignment))


def test_greedy_by_hand():
    # a a _ a sp sp _ b: repeats merge, then blanks go, so "AA B".
    rows = one_hot([2, 2, 0, 2, 1, 1, 0, 3])
    assert greedy(rows, VOCABULARY).text == "AA B"
    assert greedy(rows, VOCABULARY).score == 0.0
    assert greedy(rows, VOCABULARY, frames=3).text == "A"
    assert greedy(rows[:0], VOCABULARY).text == ""
    assert greedy(one_hot([1, 2, 1, 0, 1, 3, 1]), VOCABULARY).text == "A B"


def test_greedy_scores_its_alignment():
    rows = log_probs(7, seed=0)
    assert greedy(rows, VOCABULARY).score == pytest.approx(rows.max(axis=1).sum())


@pytest.mark.parametrize("seed", range(23))
def test_a_wide_beam_finds_the_best_of_all_texts(seed):
    words, pairs = ["A", "AB", "BB", "BA"], WordPairs.of(["A BB", "AB A", "A BB A"])
    weight, bonus, rows = 0.7, 0.3, log_probs(6, seed)
    probabilities: dict[str, float] = {}
    for alignment in itertools.product(range(len(VOCABULARY)), repeat=len(rows)):
        text = text_of(alignment).removesuffix(" ")
        if text == "" or set(text.split(" ")) <= set(words):
            mass = math.exp(sum(map(float, rows[range(len(rows)), alignment])))
            probabilities[text] = probabilities.get(text, 0.0) + mass
    probabilities[""] = math.exp(float(rows[:, 0].sum()))  # a space without a word before it is not a text
    scores = {}
    for text, mass in probabilities.items():
        chain = ["", *text.split(), ""]
        prior = sum(pairs.log_prob(word, previous) for previous, word in itertools.pairwise(chain))
        scores[text] = math.log(mass) + weight * prior + bonus * len(text.split())
    best = max(scores, key=scores.__getitem__)
    found = LexiconBeam(words, VOCABULARY, width=10_000, pairs=pairs, weight=weight, bonus=bonus, floor=0.0)(rows)
    assert found.text == best
    assert found.score == pytest.approx(scores[best], abs=1e-5)


@pytest.mark.parametrize("seed", range(7))
def test_every_word_is_in_the_list_and_padding_changes_nothing(seed):
    words = ["A", "ABBA", "BAB"]
    beam = LexiconBeam(words, VOCABULARY, width=3)
    rows = log_probs(31, seed)
    assert set(beam(rows).text.split()) <= set(words)
    assert beam(np.concatenate([rows, log_probs(5, seed + 1)]), frames=31) == beam(rows)


def test_a_misspelling_becomes_the_nearest_word():
    rows = np.log(0.88 * np.exp(one_hot([2, 0, 3, 0, 0, 2])) + 0.03).astype(np.float32)
    assert greedy(rows, VOCABULARY).text == "ABA"
    assert LexiconBeam(["ABBA", "BAB"], VOCABULARY)(rows).text == "ABBA"


def test_the_language_model_decides_between_words_that_sound_alike():
    rows = np.log(np.array([[0.02, 0.02, 0.46, 0.5]], np.float32))
    assert LexiconBeam(["A", "B"], VOCABULARY)(rows).text == "B"
    assert LexiconBeam(["A", "B"], VOCABULARY, pairs=WordPairs.of(["A", "A", "B"]))(rows).text == "A"


def test_a_broken_off_word_is_left_out():
    beam = LexiconBeam(["A", "BBB"], VOCABULARY, floor=1e-3)
    assert beam(one_hot([2, 1, 3, 3])).text == "A"
    assert beam(one_hot([3, 3])).text == ""
    assert beam(one_hot([0, 0, 0])).text == ""
    assert beam(one_hot([0])[:0]).text == ""


def test_ten_minutes_do_not_fade():
    rows = log_probs(15_013, seed=0, sharpness=0.5)
    found = LexiconBeam(["A", "BA"], VOCABULARY, width=2)(rows)
    assert -math.inf < found.score < -1_000


def test_impossible_audio_gives_empty_text():
    found = LexiconBeam(["A"], VOCABULARY)(one_hot([3, 3]))
    assert (found.text, found.score) == ("", -math.inf)


def test_word_pairs_by_hand():
    pairs = WordPairs.of(["go on", "go"])
    # counts GO 2, ON 1, edge 2: shares (count + 1) / (5 + 3 + 1)
    assert math.exp(pairs.log_prob("GO", "")) == pytest.approx((2 + 1 * 3 / 9) / (2 + 1))
    assert math.exp(pairs.log_prob("ON", "GO")) == pytest.approx((1 + 2 * 2 / 9) / (2 + 2))
    assert math.exp(pairs.log_prob("NEW", "OTHER")) == pytest.approx(1 / 9)
    assert WordPairs(**json.loads(json.dumps(asdict(pairs)))) == pairs


@pytest.mark.parametrize("previous", ["", "GO", "ON", "NEW"])
def test_word_pairs_sum_to_one(previous):
    pairs = WordPairs.of(["GO ON", "GO", "ON ON AND ON"])
    total = sum(math.exp(pairs.log_prob(word, previous)) for word in ["", "GO", "ON", "AND", "NEVER SEEN"])
    assert total == pytest.approx(1.0)


def test_errors():
    with pytest.raises(InputError, match="0 words in the closed list"):
        LexiconBeam([], VOCABULARY)
    with pytest.raises(InputError, match="word 'A B' of the closed list"):
        LexiconBeam(["a b"], VOCABULARY)
    with pytest.raises(InputError, match="'C' is not among the recogniser's characters"):
        LexiconBeam(["CAB"], VOCABULARY)
    with pytest.raises(ValueError, match=r"shape \(3, 5\): \[frames, 4\] is needed"):
        greedy(log_probs(3, seed=0, vocab=5), VOCABULARY)
    with pytest.raises(ValueError, match="frame 1 holds NaN"):
        greedy(np.array([[0.0] * 4, [np.nan] * 4]), VOCABULARY)


def test_decoding_and_audio_load_no_torch():
    code = (
        "import sys, headwise_speech.decoding, headwise_speech.audio, headwise_speech.utterances; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'lightning', 'polars', 'mlflow', 'rich')))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False).returncode
        == 0
    )
