import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise_speech.decoding import kneser_ney
from headwise_speech.decoding.ngram import END, UNKNOWN

TEXTS = st.lists(st.lists(st.sampled_from("ABC"), max_size=7), min_size=1, max_size=13)


def test_two_words_by_hand() -> None:
    ngram = kneser_ney([["A"], ["A", "B"]], 2)
    # Different words before A: <s>; before B: A; before </s>: A and B. Discounts .5 and 1 for counts 1 and 2.
    kept, lost = (4 - (0.5 + 0.5 + 1)) / 4, (0.5 + 0.5 + 1) / 4
    assert kept + lost == 1
    one = {"A": 0.5 / 4 + lost / 4, "B": 0.5 / 4 + lost / 4, END: 1 / 4 + lost / 4, UNKNOWN: lost / 4}
    for word, probability in one.items():
        assert math.exp(ngram.step(0, word)[0]) == pytest.approx(probability)
    # <s> A twice of two; A </s> and A B once each of two.
    after = ngram.step(ngram.start, "A")
    assert math.exp(after[0]) == pytest.approx((2 - 1.0) / 2 + 1.0 / 2 * one["A"])
    assert math.exp(ngram.step(after[1], "B")[0]) == pytest.approx(0.5 / 2 + (0.5 + 0.5) / 2 * one["B"])
    assert math.exp(ngram.step(after[1], "A")[0]) == pytest.approx((0.5 + 0.5) / 2 * one["A"])


@given(TEXTS, st.integers(1, 4), st.lists(st.sampled_from("ABCN"), max_size=5))
def test_what_may_follow_sums_to_one(texts: list[list[str]], order: int, history: list[str]) -> None:
    ngram = kneser_ney(texts, order)
    state = ngram.start
    for word in history:
        state = ngram.step(state, word)[1]
    known = sorted({word for text in texts for word in text} | {END, UNKNOWN})
    assert sum(math.exp(ngram.step(state, word)[0]) for word in known) == pytest.approx(1, abs=1e-5)


def test_enough_texts_are_discounted_by_their_counts() -> None:
    texts = [["A"] * count for count in (1, 1, 1, 2, 2, 3, 4)] + [list("AB"), list("CAC"), list("DEF"), list("GGH")] * 2
    ngram = kneser_ney([*texts, list("IJKLMNOPQ"), list("RST"), list("RST"), list("RST")], 1)
    counts = Counter(word for text in [*texts, list("IJKLMNOPQ"), *[list("RST")] * 3] for word in [*text, END])
    frequencies = Counter(counts.values())
    share = frequencies[1] / (frequencies[1] + 2 * frequencies[2])
    once = 1 - 2 * share * frequencies[2] / frequencies[1]
    difference = math.exp(ngram.step(0, "I")[0]) - math.exp(ngram.step(0, UNKNOWN)[0])
    assert difference == pytest.approx((1 - once) / counts.total(), rel=1e-4)


def test_longer_histories_predict_better() -> None:
    texts = [list("ABC"), list("BCA"), list("CAB")] * 5
    found = [kneser_ney(texts, order).perplexity(texts) for order in (1, 2, 3)]
    assert found == sorted(found, reverse=True)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"order \(0\) must be at least 1"):
        kneser_ney([["A"]], 0)
    with pytest.raises(ValueError, match="0 texts"):
        kneser_ney([], 2)
    with pytest.raises(ValueError, match=r"text '<unk>' holds <unk>"):
        kneser_ney([[UNKNOWN]], 2)
