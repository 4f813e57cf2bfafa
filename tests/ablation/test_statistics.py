"""Intervals, paired tests and Holm's correction, against textbook numbers, scipy and statsmodels."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from reg_d2.ablation.statistics import estimate, holm, paired


def test_the_interval_of_three_seeds_by_hand():
    """t_{0.975, 2} = 4.302653 (table); s of 1, 2, 3 is 1; half width 4.302653 / sqrt(3) = 2.484138."""
    value = estimate([1.0, 2.0, 3.0])
    assert (value.n, value.mean, value.deviation) == (3, 2.0, 1.0)
    assert value.low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert value.high == pytest.approx(2 + 2.484138, abs=1e-6)


def test_one_seed_gives_no_interval():
    value = estimate([31.5])
    assert value.mean == 31.5 and value.n == 1
    assert value.low is value.high is value.deviation is value.p_value is None
    assert estimate([]).mean is None


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_estimates_agree_with_statsmodels(n):
    values = np.random.default_rng(n).normal(0.7, 2.0, n)
    value, oracle = estimate(values), DescrStatsW(values)
    assert (value.low, value.high) == pytest.approx(oracle.tconfint_mean(0.05))
    assert value.p_value == pytest.approx(oracle.ttest_mean(0)[1])
    assert value.deviation == pytest.approx(oracle.std_mean * np.sqrt(n))


def test_differences_are_paired_by_seed():
    rng = np.random.default_rng(1)
    base = {seed: x for seed, x in enumerate(rng.normal(30, 5, 6))}
    row = {seed: x + 1 + rng.normal(0, 0.2) for seed, x in base.items()}
    row[99] = 1000.0  # a seed that the other has not
    both = [[values[seed] for seed in range(6)] for values in (row, base)]
    value, oracle = paired(row, dict(reversed(base.items()))), stats.ttest_rel(*both)
    assert value.n == 6
    assert value.p_value == pytest.approx(oracle.pvalue)
    interval = oracle.confidence_interval(0.95)
    assert (value.low, value.high) == pytest.approx((interval.low, interval.high))
    assert value.p_value < 0.001 < stats.ttest_ind(*both).pvalue, "unpaired, the seeds' own spread would hide it"


def test_values_without_spread_have_no_test_unless_they_are_zero():
    assert paired({0: 5.0, 1: 6.0}, {0: 5.0, 1: 6.0}).p_value == 1.0
    shifted = paired({0: 6.0, 1: 7.0}, {0: 5.0, 1: 6.0})
    assert (shifted.low, shifted.mean, shifted.high, shifted.p_value) == (1.0, 1.0, 1.0, None)


def test_rounding_is_no_spread():
    """31.3 - 30.1 and 32.3 - 31.1 differ in the last bit: a t of 1e15 would be proof."""
    row, base = {0: 31.3, 1: 32.3, 2: 33.3}, {0: 30.1, 1: 31.1, 2: 32.1}
    assert len({row[seed] - base[seed] for seed in row}) > 1
    shifted = paired(row, base)
    assert (shifted.deviation, shifted.p_value) == (0.0, None) and shifted.mean == pytest.approx(1.2)
    same = paired({0: 0.1 + 0.2, 1: 0.7}, {0: 0.3, 1: 0.6 + 0.1})
    assert (same.mean, same.deviation, same.p_value) == (0.0, 0.0, 1.0)
    assert estimate([0.1] * 3).p_value is None
    small = estimate([1e-12, 2e-12, 3e-12])
    assert small.p_value == pytest.approx(stats.ttest_1samp([1, 2, 3], 0).pvalue), "small is not rounded away"


def test_holm_by_hand_and_against_statsmodels():
    # 0.01 * 4, then 0.02 * 3 = 0.06, 0.03 * 2 = 0.06, and 0.04 * 1 raised to 0.06.
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.02}) == pytest.approx(
        {"a": 0.06, "b": 0.04, "c": 0.06, "d": 0.06}
    )
    values = np.random.default_rng(3).uniform(0, 0.3, 12)
    assert list(holm(dict(enumerate(values))).values()) == pytest.approx(multipletests(values, method="holm")[1])
    assert holm({"a": None, "b": 0.2}) == {"a": None, "b": 0.2}, "what has no p-value is no test"
    assert holm({}) == {}
