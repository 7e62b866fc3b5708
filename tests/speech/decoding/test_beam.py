import itertools
import math
from collections import defaultdict

import numpy as np
import pytest

from headwise.errors import InputError
from headwise_speech.decoding import HotWords, NGram, PrefixBeam, greedy, kneser_ney
from headwise_speech.text import BLANK, Vocabulary

CHARACTERS = Vocabulary.of(["AB"])  # <blank>, space, A, B
PIECES = Vocabulary((BLANK, " ", "A", " A"), ((" ", "A"),))
WORDS = Vocabulary((BLANK, " A", " AB", " BB"))
CLOSED = ["A", "AB", "BB", "BA"]
TEXTS = ["A BB", "AB A", "A BB A", "AB"]
EVERYTHING = {"width": 10_000, "cut": 0.0}


def log_probs(frames: int, seed: int, sharpness: float = 2.0, vocab: int = 4) -> np.ndarray:
    logits = sharpness * np.random.default_rng(seed).standard_normal((frames, vocab))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def one_hot(tokens: list[int]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.eye(4, dtype=np.float32)[tokens])


def spoken(rows: np.ndarray, vocabulary: Vocabulary) -> dict[str, float]:
    """The logarithm of the probability of every text, summed over all of its alignments."""
    masses: defaultdict[str, float] = defaultdict(float)
    for alignment in itertools.product(range(len(vocabulary)), repeat=len(rows)):
        text = vocabulary.decode(token for token, _ in itertools.groupby(alignment))
        masses[text] += math.exp(sum(map(float, rows[range(len(rows)), alignment])))
    return {text: math.log(mass) for text, mass in masses.items()}


def by_words(texts: list[str]) -> NGram:
    return kneser_ney(map(str.split, texts), 3)


def by_tokens(texts: list[str], vocabulary: Vocabulary) -> NGram:
    return kneser_ney(map(vocabulary.written, texts), 3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("expected", [{}, {"BB A": 0.9, "A": -0.4}])
@pytest.mark.parametrize("unit", ["word", "token"])
@pytest.mark.parametrize("closed", [True, False])
def test_a_wide_beam_finds_all_texts_in_order(seed: int, expected: dict[str, float], unit: str, closed: bool) -> None:
    rows = log_probs(5, seed)
    language = by_words(TEXTS) if unit == "word" else by_tokens(TEXTS, CHARACTERS)
    hot = HotWords(expected, CHARACTERS) if expected else None
    want = {}
    for text, acoustic in spoken(rows, CHARACTERS).items():
        if not closed or set(text.split()) <= set(CLOSED):
            prior = language.score(text.split() if unit == "word" else CHARACTERS.written(text))
            want[text] = acoustic, prior, acoustic + 0.7 * prior + 0.3 * len(text.split()) + worth(text, expected)
    beam = PrefixBeam(
        CHARACTERS,
        words=CLOSED if closed else None,
        language=language,
        unit=unit,
        weight=0.7,
        bonus=0.3,
        **EVERYTHING,
    )
    found = beam.nbest(rows, count=10_000, hot=hot)
    assert len(found) == len(want)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert {each.text: pytest.approx((each.acoustic, each.language, each.score), abs=1e-4) for each in found} == want
    assert beam(rows, hot=hot) == found[0]


def worth(text: str, boosts: dict[str, float]) -> float:
    starts = [at for at, letter in enumerate(f" {text}") if letter == " "]
    return sum(
        boost * len(phrase.replace(" ", ""))
        for phrase, boost in boosts.items()
        for start in starts
        if f" {text} ".startswith(f" {phrase} ", start)
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("vocabulary", [PIECES, WORDS])
def test_other_vocabularies(seed: int, vocabulary: Vocabulary) -> None:
    rows, language = log_probs(5, seed), by_words(TEXTS)
    hot = HotWords({"A A": 1.1}, vocabulary)
    want = {
        text: acoustic + 0.7 * language.score(text.split()) + worth(text, {"A A": 1.1})
        for text, acoustic in spoken(rows, vocabulary).items()
    }
    beam = PrefixBeam(vocabulary, language=language, weight=0.7, **EVERYTHING)
    found = {each.text: each.score for each in beam.nbest(rows, count=10_000, hot=hot)}
    assert found == pytest.approx(want, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_a_closed_list_of_words_that_are_tokens(seed: int) -> None:
    rows = log_probs(5, seed)
    want = {text: p for text, p in spoken(rows, WORDS).items() if set(text.split()) <= {"A", "BB"}}
    found = PrefixBeam(WORDS, words=["BB", "A"], **EVERYTHING).nbest(rows, count=10_000)
    assert {each.text: each.score for each in found} == pytest.approx(want, abs=1e-4)


@pytest.mark.parametrize("seed", range(7))
def test_every_word_is_in_the_list_and_padding_changes_nothing(seed: int) -> None:
    words = ["A", "ABBA", "BAB"]
    beam = PrefixBeam(CHARACTERS, words=words, width=3)
    rows = log_probs(31, seed)
    assert set(beam(rows).text.split()) <= set(words)
    assert beam(np.concatenate([rows, log_probs(5, seed + 1)]), frames=31) == beam(rows)


@pytest.mark.parametrize("seed", range(7))
@pytest.mark.parametrize("words", [None, ["A", "ABBA", "BAB"]])
def test_phrases_that_are_not_said_change_nothing(seed: int, words: list[str] | None) -> None:
    # The beginnings of both are said often, and what was lent to them is given back.
    rows = log_probs(7, seed)
    beam = PrefixBeam(CHARACTERS, words=words, **EVERYTHING)
    hot = HotWords({"AABBAABB": 0.7, "A B A B A": 0.7, "ABBAABBA": -0.7}, CHARACTERS)
    want, found = ({each.text: each.score for each in beam.nbest(rows, count=9999, hot=h)} for h in (None, hot))
    assert set(want) <= set(found)  # a closed list is longer by their words
    assert {text: found[text] for text in want} == pytest.approx(want)


def test_a_hot_word_joins_the_closed_list() -> None:
    rows = np.log(0.88 * np.exp(one_hot([2, 0, 3, 0, 0, 2])) + 0.03).astype(np.float32)
    beam = PrefixBeam(CHARACTERS, words=["ABBA", "BAB"])
    assert beam(rows).text == "ABBA"
    assert beam(rows, hot=HotWords({"aba": 0.5}, CHARACTERS)).text == "ABA"
    assert beam(rows).text == "ABBA"


def test_a_misspelling_becomes_the_nearest_word() -> None:
    rows = np.log(0.88 * np.exp(one_hot([2, 0, 3, 0, 0, 2])) + 0.03).astype(np.float32)
    assert greedy(rows, CHARACTERS).text == "ABA"
    assert PrefixBeam(CHARACTERS, words=["ABBA", "BAB"])(rows).text == "ABBA"


def test_the_language_model_decides_between_words_that_sound_alike() -> None:
    rows = np.log(np.array([[0.02, 0.02, 0.46, 0.5]], np.float32))
    assert PrefixBeam(CHARACTERS, words=["A", "B"])(rows).text == "B"
    for unit, language in (("word", by_words(["A", "A", "B"])), ("token", by_tokens(["A", "A", "B"], CHARACTERS))):
        assert PrefixBeam(CHARACTERS, words=["A", "B"], language=language, unit=unit)(rows).text == "A"


def test_a_broken_off_word_is_left_out() -> None:
    beam = PrefixBeam(CHARACTERS, words=["A", "BBB"])
    assert beam(one_hot([2, 1, 3, 3])).text == "A"
    assert beam(one_hot([3, 3])).text == ""
    assert beam(one_hot([0, 0, 0])).text == ""
    assert beam(one_hot([0])[:0]).text == ""


def test_what_a_broken_off_word_was_lent_is_given_back() -> None:
    beam, rows = PrefixBeam(CHARACTERS, words=["A", "BBB"]), one_hot([2, 1, 3, 3])
    [cold], [warm] = (beam.nbest(rows, count=3, hot=hot) for hot in (None, HotWords({"BBB": 2.0}, CHARACTERS)))
    assert warm.score == pytest.approx(cold.score)


@pytest.mark.parametrize("words", [["A", "BA"], None])
def test_ten_minutes_do_not_fade_and_are_forgotten(words: list[str] | None) -> None:
    rows = log_probs(15_013, seed=0, sharpness=0.5)
    found = PrefixBeam(CHARACTERS, words=words, width=2)(rows)
    assert -math.inf < found.score < -1_000


def test_forgetting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, beam = log_probs(101, seed=3), PrefixBeam(CHARACTERS, language=by_words(TEXTS), width=11)
    want = beam.nbest(rows, count=7)
    monkeypatch.setattr("headwise_speech.decoding.beam._FORGOTTEN", 0)
    assert beam.nbest(rows, count=7) == want


def test_great_boosts_do_not_swell() -> None:
    rows = log_probs(301, seed=0)
    found = PrefixBeam(CHARACTERS)(rows, hot=HotWords({"A": 300.0, "AB": 200.0}, CHARACTERS))
    assert 301 < found.score < math.inf


def test_impossible_audio_gives_empty_text() -> None:
    found = PrefixBeam(CHARACTERS, words=["A"])(one_hot([3, 3]))
    assert (found.text, found.score) == ("", -math.inf)


def test_errors() -> None:
    with pytest.raises(InputError, match="0 words in the closed list"):
        PrefixBeam(CHARACTERS, words=[])
    with pytest.raises(InputError, match="word 'a b' of the closed list"):
        PrefixBeam(CHARACTERS, words=["a b"])
    with pytest.raises(InputError, match="'C' is not among the recogniser's characters"):
        PrefixBeam(CHARACTERS, words=["CAB"])
