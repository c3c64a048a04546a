from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind

from promo_ray.errors import ConfigError, DataError
from promo_ray.evaluation.ab_test import ab_test, wilson_interval


def test_means_are_compared_as_welch_does() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.0, 1.0, 40), rng.normal(1.5, 3.0, 70)
    control, treated = ab_test(np.concatenate([a, b]), np.repeat([0, 1], [40, 70]))
    want = ttest_ind(b, a, equal_var=False)
    interval = want.confidence_interval(0.95)
    assert treated.p_value == pytest.approx(want.pvalue)
    assert (treated.effect_low, treated.effect_high) == pytest.approx((interval.low, interval.high))
    assert treated.effect == pytest.approx(b.mean() - a.mean())
    assert treated.relative == pytest.approx(b.mean() / a.mean() - 1)
    assert np.isnan(control.effect)
    assert control.low < control.mean < control.high


def test_wilson_interval_of_the_textbook() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_difference_of_proportions_of_the_textbook() -> None:
    # Newcombe 1998, table II (a), method 10: 56/70 against 48/80 gives 0.0524 to 0.3339
    outcome = np.concatenate([np.ones(48), np.zeros(32), np.ones(56), np.zeros(14)])
    _, treated = ab_test(outcome, np.repeat([0, 1], [80, 70]))
    assert (treated.effect_low, treated.effect_high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize("kind", ["mean", "proportion"])
def test_intervals_cover_and_a_a_tests_seldom_alarm(kind: str) -> None:
    rng = np.random.default_rng(1)
    hits = alarms = 0
    for _ in range(600):
        if kind == "mean":
            outcome = rng.exponential(size=400)
        else:
            outcome = (rng.random(400) < 0.05).astype(float)
        result = ab_test(outcome, np.arange(400) % 2, kind=kind)[1]
        hits += result.effect_low <= 0 <= result.effect_high
        alarms += result.p_value < 0.05
    assert 0.92 <= hits / 600 <= 0.99
    assert alarms / 600 <= 0.08


def test_zeros_and_ones_may_be_treated_as_means() -> None:
    outcome, arm = np.array([0.0, 1, 0, 1, 1, 1, 0, 1]), np.repeat([0, 1], 4)
    assert ab_test(outcome, arm)[1].effect_low != ab_test(outcome, arm, kind="mean")[1].effect_low


def test_arms_without_any_scatter_give_an_exact_answer() -> None:
    result = ab_test([2.0, 2.0, 5.0, 5.0], [0, 0, 1, 1])[1]
    assert (result.effect, result.effect_low, result.p_value) == (3.0, 3.0, 0.0)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="kind"):
        ab_test([1.0, 2.0], [0, 1], kind="magic")
    with pytest.raises(ConfigError, match="level"):
        ab_test([1.0, 2.0], [0, 1], level=1.0)
    with pytest.raises(DataError, match="2 rows per arm"):
        ab_test([1.0, 2.0, 3.0], [0, 0, 1])
    with pytest.raises(DataError, match="0 or 1"):
        ab_test([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], kind="proportion")
    with pytest.raises(DataError, match="treatment"):
        ab_test([1.0, 2.0, 3.0, 4.0], [0, 0, 2, 2])
