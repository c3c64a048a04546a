from __future__ import annotations

import numpy as np
import pytest

from promo_ray.errors import DataError
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
