from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import floats, lists
from scipy.stats import multivariate_normal, norm

from promo_ray.errors import ConfigError, DataError
from promo_ray.evaluation.multiple import adjust_p_values, dunnett_critical, dunnett_p_values


def test_holm_and_benjamini_hochberg_of_the_textbook() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    assert adjust_p_values(p, "holm") == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # Benjamini and Hochberg 1995, section 4.2: four of 15 stay at 0.05
    p15 = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
    p15 += [0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    assert (adjust_p_values(p15, "benjamini_hochberg") <= 0.05).sum() == 4
    assert (adjust_p_values(p15, "holm") <= 0.05).sum() == 3
    assert adjust_p_values(p, "none") == pytest.approx(p)


@given(lists(floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_never_fall_below_and_keep_the_order(p: list[float]) -> None:
    for method in ("holm", "benjamini_hochberg"):
        found = adjust_p_values(p, method)
        assert (found >= np.array(p) - 1e-12).all()
        assert (found <= 1).all()
        assert (np.diff(found[np.argsort(p, kind="stable")]) >= -1e-12).all()


def test_dunnett_of_the_textbook() -> None:
    # Dunnett 1964, two-sided 5 %, infinite degrees of freedom
    for arms, want in ((1, 1.96), (2, 2.21), (3, 2.35), (5, 2.51), (9, 2.69)):
        assert dunnett_critical(np.ones(arms), 1.0, 0.95) == pytest.approx(want, abs=0.006)


def test_dunnett_equals_the_multivariate_normal_with_uneven_arms() -> None:
    variance, base = np.array([0.5, 2.0, 1.0]), 0.7
    cov = (np.diag(variance) + base) / np.sqrt(np.outer(variance + base, variance + base))
    draws = np.abs(multivariate_normal(np.zeros(3), cov, seed=1).rvs(400_000)).max(axis=1)
    p = dunnett_p_values([1.5, -2.0, 2.5], variance, base)
    assert p == pytest.approx([(draws > c).mean() for c in (1.5, 2.0, 2.5)], abs=0.003)
    assert dunnett_p_values([1.0], [1.0], 1.0) == pytest.approx([2 * norm.sf(1.0)])


def test_small_control_arm_is_integrated_too() -> None:
    # loading 0.995: nearly one common error, hence nearly one test
    assert dunnett_critical(np.full(4, 0.01), 1.0, 0.95) == pytest.approx(2.0, abs=0.06)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="method"):
        adjust_p_values([0.1], "magic")
    with pytest.raises(DataError, match="p_values"):
        adjust_p_values([1.5])
