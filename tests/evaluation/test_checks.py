from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from promo_ray.errors import DataError
from promo_ray.evaluation.checks import effective_sample, overlap, sample_ratio
from promo_ray.evaluation.policy_value import policy_value


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


def test_overlap_looks_at_the_smallest_propensity() -> None:
    assert overlap([0.5, 0.01]).passed
    found = overlap([0.5, 0.0005])
    assert not found.passed
    assert found.statistic == 0.0005
    with pytest.raises(DataError):
        overlap([])


def test_effective_sample_must_reach_a_hundred() -> None:
    n = 150
    action = np.arange(n) % 2
    estimate = policy_value(np.ones(n, int), action, np.ones(n), np.full(n, 0.5), method="ips")
    assert not effective_sample(estimate).passed
    assert effective_sample(estimate, limit=50).passed
