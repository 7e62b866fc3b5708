import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headwise.significance import compare, holm, interval, intervals, randomisation


def test_p_by_hand():
    # Of the 8 patterns of signs of 1, 2, 3 the sums are 6, 4, 2, 0, 0, -2, -4, -6.
    assert randomisation(np.array([1.0, 2.0, 3.0])) == 2 / 8
    assert randomisation(np.array([1.0, -2.0, 3.0])) == 6 / 8  # the sum is 2
    assert randomisation(np.array([3.0, 0.0, 1.0, 0.0, 2.0])) == 2 / 8  # queries that both answer alike decide nothing


def test_rounding_decides_nothing():
    # In tenths, exactly: the share of patterns at least as far from 0 as the sum, counted in whole numbers.
    tenths = np.array([20, -58, 64, -13, 22, 16, -27, -34, 97, -25, -59])
    signs = 1 - 2 * (np.arange(2**11)[:, None] >> np.arange(11) & 1)
    assert randomisation(tenths / 10) == (abs(signs @ tenths) >= abs(tenths.sum())).mean()


def test_scorers_that_answer_alike_do_not_differ():
    assert randomisation(np.zeros(7)) == 1
    assert compare(np.ones(5), np.ones(5)) == compare(np.zeros(5), np.zeros(5))


def test_hits_won_and_lost_are_the_sign_test():
    differences = np.array([1.0] * 40 + [-1.0] * 22 + [0.0] * 101)
    assert randomisation(differences, resamples=100_000) == pytest.approx(stats.binomtest(22, 62).pvalue, abs=0.003)


def test_p_is_that_of_the_t_test_where_that_holds():
    differences = np.random.default_rng(3).normal(0.1, 1, 401)
    assert randomisation(differences, 100_000) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.005)


def test_without_a_difference_p_is_uniform():
    generator = np.random.default_rng(5)
    found = [randomisation(generator.normal(size=31), resamples=199, seed=seed) for seed in range(500)]
    assert stats.kstest(found, "uniform").pvalue > 0.05
    assert 0.03 < np.mean(np.array(found) <= 0.05) < 0.07


def test_p_is_never_nothing_and_the_same_again():
    certain = np.linspace(1, 2, 41)
    assert randomisation(certain, resamples=999) == 1 / 1000
    unsure = np.random.default_rng(0).normal(size=41)
    assert randomisation(unsure) == randomisation(unsure) != randomisation(unsure, seed=1)


@pytest.mark.parametrize("block", [1, 97, 1 << 20])
def test_signs_are_drawn_in_blocks_of_any_size(block, monkeypatch):
    monkeypatch.setattr("headwise.significance.BLOCK", block)
    p = randomisation(np.random.default_rng(2).normal(0.2, 1, 53), resamples=5000)
    assert p == pytest.approx(stats.ttest_1samp(np.random.default_rng(2).normal(0.2, 1, 53), 0).pvalue, abs=0.02)


def test_comparison_by_hand():
    found = compare(np.array([1.0, 1.0, 1.0, 0.0]), np.array([0.0, 0.5, 1.0, 0.0]))
    assert (found.difference, found.p) == (0.375, 0.5)
    assert found.low <= found.difference <= found.high
    back = compare(np.array([0.0, 0.5, 1.0, 0.0]), np.array([1.0, 1.0, 1.0, 0.0]))
    assert (back.difference, back.p) == (-0.375, 0.5)


def test_other_queries_cannot_be_paired():
    with pytest.raises(ValueError, match="first has 3 values, second has 2: a paired test needs the same queries"):
        compare(np.zeros(3), np.zeros(2))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=11))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p):
    corrected = holm(p)
    assert all(a <= b <= min(1, a * len(p)) or b == a for a, b in zip(p, corrected, strict=True))
    assert [corrected[i] for i in np.argsort(p)] == sorted(corrected)
    assert corrected[int(np.argmin(p))] == min(1, min(p) * len(p))


def test_interval_is_the_textbook_one_and_repeatable():
    values = (np.arange(1000) < 300).astype(float)
    low, high = interval(values)
    error = 1.96 * np.sqrt(0.3 * 0.7 / 1000)
    assert low == pytest.approx(0.3 - error, abs=0.004)
    assert high == pytest.approx(0.3 + error, abs=0.004)
    assert interval(values) == (low, high)
    assert interval(values, seed=1) != (low, high)
    assert interval(np.ones(7)) == (1, 1)


def test_intervals_of_several_figures_are_those_of_each():
    values = np.random.default_rng(0).random((43, 3))
    np.testing.assert_allclose(intervals(values), [interval(column) for column in values.T])
