from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from promo_ray import evaluation
from promo_ray.errors import ConfigError, DataError
from promo_ray.evaluation.checks import effective_sample, overlap
from promo_ray.evaluation.policy_value import policy_value


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


@pytest.mark.parametrize("level", [95, 1.0, 0, -1, float("nan")])
def test_every_interval_refuses_a_level_outside_0_and_1(level: float) -> None:
    n = 200
    arm, y, one = np.arange(n) % 2, np.arange(n, dtype=float), np.ones((n, 1))
    log = (np.ones(n, int), arm, y, np.full(n, 0.5))
    calls: list[Callable[[], object]] = [
        lambda: policy_value(*log, level=level),
        lambda: evaluation.compare_policies(log[0], None, *log[1:], level=level),
        lambda: evaluation.release_gate(log[0], None, *log[1:], level=level),
        lambda: evaluation.lower_bound(*log, level=level),
        lambda: evaluation.stream_policy_value([lambda: [evaluation.LogBlock(*log)]], level=level),
        lambda: evaluation.gain_curve(one, one, np.hstack([one, one]), level=level),
        lambda: evaluation.calibration(y, y, level=level),
        lambda: evaluation.qini(y, arm, y, level=level),
        lambda: evaluation.auuc(y, arm, y, level=level),
        lambda: evaluation.uplift_at(y, arm, y, level=level),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="level must lie in"):
            call()
