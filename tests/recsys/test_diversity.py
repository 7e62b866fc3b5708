from itertools import combinations

import numpy as np
import pytest

from headwise_recsys.diversity import marginal_relevance, within_quotas


def test_by_hand() -> None:
    # Relevance 1, 0.9, 0.5, 0; the second points where the first does, the third across.
    scores = np.array([3, 2.8, 2, 1], np.float32)
    vectors = np.array([[2, 0], [5, 0], [0, 1], [-1, 0]], np.float32)
    assert marginal_relevance(scores, vectors, 4, diversity=0).tolist() == [0, 1, 2, 3]
    # 0.5 * 0.9 - 0.5 * 1 < 0.5 * 0 + 0.5 * 1 = 0.5 for the last; then 0.25 - 0 for the third.
    assert marginal_relevance(scores, vectors, 4, diversity=0.5).tolist() == [0, 3, 2, 1]
    # 0.72 - 0.2 for the second, 0.4 for the third, 0.2 for the last.
    assert marginal_relevance(scores, vectors, 2, diversity=0.2).tolist() == [0, 1]


def test_with_more_diversity_each_is_less_like_those_before_it() -> None:
    rng = np.random.default_rng(3)
    vectors, scores = rng.normal(size=(53, 7)).astype(np.float32), rng.normal(size=53).astype(np.float32)
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = []
    for diversity in (0, 0.5, 1):
        chosen = marginal_relevance(scores, vectors, 11, diversity=diversity)
        assert chosen[0] == scores.argmax()
        assert len(set(chosen.tolist())) == 11
        among = directions[chosen] @ directions[chosen].T
        alike.append(np.mean([among[place, :place].max() for place in range(1, 11)]))
    assert alike == sorted(alike, reverse=True)


def test_no_more_than_there_are() -> None:
    nothing = np.zeros((0, 5), np.float32)
    assert marginal_relevance(nothing[:, 0], nothing, 3, diversity=0.5).tolist() == []
    equal = np.ones(2, np.float32)
    assert marginal_relevance(equal, np.zeros((2, 5), np.float32), 3, diversity=0.5).tolist() == [0, 1]


def test_quotas_pass_over_what_is_too_many() -> None:
    categories = ["film", "film", "book", "film", "game", "book", "game"]
    assert within_quotas(categories, {"film": 1, "book": 2}, 5).tolist() == [0, 2, 4, 5, 6]
    assert within_quotas(categories, {"film": 0}, 3, otherwise=1).tolist() == [2, 4]
    assert within_quotas(categories, {}, 2).tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(11))
def test_no_other_choice_within_the_quotas_scores_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.random(9))[::-1]
    categories, quotas, k = rng.integers(0, 3, 9).tolist(), {0: 1, 1: 2, 2: 1}, 3
    best = max(
        scores[list(places)].sum()
        for places in combinations(range(9), k)
        if all(sum(categories[place] == kind for place in places) <= most for kind, most in quotas.items())
    )
    assert scores[within_quotas(categories, quotas, k)].sum() == pytest.approx(best)
