from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, chisquare, norm

from promo_ray.errors import DataError
from promo_ray.evaluation.srm import (
    SAMPLE_RATIO_ALARM,
    SAMPLE_RATIO_WARNING,
    sample_ratio,
    sample_ratio_by_segment,
)


def test_p_value_is_that_of_the_chi_square_test() -> None:
    counts = np.array([480, 530, 990])
    want = chisquare(counts, counts.sum() * np.array([0.25, 0.25, 0.5])).pvalue
    assert sample_ratio(counts, [1, 1, 2]).statistic == pytest.approx(want)


def test_a_shift_of_half_a_percent_is_found_at_200_000_users() -> None:
    assert not sample_ratio([101_000, 99_000], [1, 1]).passed
    assert sample_ratio([100_100, 99_900], [1, 1]).passed


def test_arms_of_weight_zero_leave_the_degrees_of_freedom() -> None:
    two = sample_ratio([480, 520], [1, 1]).statistic
    assert sample_ratio([480, 520, 0], [1, 1, 0]).statistic == pytest.approx(two)


def test_user_in_an_arm_that_should_be_empty_fails() -> None:
    assert not sample_ratio([500, 500, 3], [1, 1, 0]).passed


def test_false_alarms_are_as_rare_as_promised() -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(5000, [0.3, 0.3, 0.4], size=5000)
    alarms = sum(not sample_ratio(c, [0.3, 0.3, 0.4]).passed for c in counts)
    assert alarms <= 14  # 5 expected


@pytest.mark.parametrize(
    ("counts", "expected"), [([1, 2], [1.0]), ([0, 0], [1, 1]), ([-1, 2], [1, 1]), ([], [])]
)
def test_counts_that_make_no_sense_are_refused(counts: list[int], expected: list[float]) -> None:
    with pytest.raises(DataError, match=r"expected|counts"):
        sample_ratio(counts, expected)


def test_power_at_half_a_percent_is_what_the_docstring_says() -> None:
    counts = np.arange(99_500, 102_500, 5)  # every fifth count stands for its neighbors
    chance = 5 * binom.pmf(counts, 200_000, 0.505)
    p = np.array([sample_ratio([c, 200_000 - c], [1, 1]).statistic for c in counts])
    # z of the shift: 0.005 over 0.5 / sqrt(200,000)
    shift = 0.005 / (0.25 / 200_000) ** 0.5
    want = norm.cdf(shift - norm.isf(np.array([SAMPLE_RATIO_ALARM, SAMPLE_RATIO_WARNING]) / 2))
    assert want == pytest.approx([0.881, 0.952], abs=5e-4)
    assert chance[p < SAMPLE_RATIO_ALARM].sum() == pytest.approx(want[0], abs=5e-3)
    assert chance[p < SAMPLE_RATIO_WARNING].sum() == pytest.approx(want[1], abs=3e-3)


def test_warning_passes_and_says_so() -> None:
    check = sample_ratio([100_640, 99_360], [1, 1])
    assert SAMPLE_RATIO_ALARM <= check.statistic < SAMPLE_RATIO_WARNING
    assert check.passed
    assert "warning" in check.detail


def test_monitored_p_value_is_the_ratio_of_two_likelihoods() -> None:
    # Dirichlet-multinomial over multinomial, one user after the other
    prior, found, factor = np.array([5000.0, 5000.0]), np.zeros(2), 1.0
    for arm in [0, 0, 1, 0, 0, 0]:
        factor *= (prior + found)[arm] / (prior + found).sum() / 0.5
        found[arm] += 1
    assert sample_ratio(found, [1, 1], is_monitored=True).statistic == pytest.approx(1 / factor)


def test_monitoring_every_hundred_users_seldom_alarms_and_finds_lost_users() -> None:
    rng = np.random.default_rng(2)
    alarms = found = 0
    for _ in range(100):
        sound = np.cumsum(rng.binomial(100, 0.5, 500))
        shifted = np.cumsum(rng.binomial(100, 0.49, 500))
        n = 100 * np.arange(1, 501)
        for counts, is_sound in ((sound, True), (shifted, False)):
            checks = [
                sample_ratio([c, m - c], [1, 1], is_monitored=True)
                for c, m in zip(counts[::10], n[::10], strict=True)
            ]
            hit = any(not c.passed for c in checks)
            alarms += hit and is_sound
            found += hit and not is_sound
    assert alarms <= 1
    assert found >= 50


def test_one_broken_segment_is_named_and_the_others_pass() -> None:
    rng = np.random.default_rng(3)
    segment = np.repeat(["app", "mail", "web"], 4000)
    arm = rng.integers(0, 2, 12_000)
    lost = (segment == "web") & (arm == 1) & (rng.random(12_000) < 0.25)
    checks = sample_ratio_by_segment(arm[~lost], segment[~lost], [1, 1])
    assert [name for name, c in checks.items() if not c.passed] == ["web"]
    assert "web" in checks["web"].detail
    with pytest.raises(DataError, match="segment"):
        sample_ratio_by_segment([0, 1], ["a"], [1, 1])


def test_segments_together_seldom_alarm() -> None:
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(200):
        checks = sample_ratio_by_segment(rng.integers(0, 2, 2000), np.arange(2000) % 20, [1, 1])
        alarms += any(not c.passed for c in checks.values())
    assert alarms <= 3  # 0.4 expected


def test_parts_of_users_are_refused() -> None:
    with pytest.raises(DataError, match="counts: must hold whole numbers of users"):
        sample_ratio([500.5, 500], [1, 1])
