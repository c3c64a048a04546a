from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers

from promo_ray.errors import ConfigError
from promo_ray.evaluation.ab import ab_test
from promo_ray.evaluation.ab_sequential import sequential_test
from promo_ray.evaluation.power import (
    Plan,
    baseline,
    detection_power,
    minimum_detectable_effect,
    sample_size,
)


def test_agrees_with_statsmodels() -> None:
    # statsmodels 0.15: TTestIndPower and power_proportions_2indep
    assert detection_power(0.1, 1000, sd=1.0) == pytest.approx(0.6083667058)
    assert minimum_detectable_effect(500, 1000, sd=1.0) == pytest.approx(0.1535474170)
    assert detection_power(0.02, 2000, rate=0.1) == pytest.approx(0.5245152561)
    assert detection_power(0.002, 10_000, 20_000, rate=0.01) == pytest.approx(0.3337577137)


@settings(max_examples=30, deadline=None)
@given(n=integers(50, 5000), power=floats(0.3, 0.95), rate=floats(0.05, 0.4))
def test_effect_power_and_size_invert_each_other(n: int, power: float, rate: float) -> None:
    for metric in ({"sd": 2.0}, {"rate": rate}):
        effect = minimum_detectable_effect(n, power=power, **metric)
        assert detection_power(effect, n, **metric) == pytest.approx(power, abs=1e-6)
        assert abs(sample_size(effect, power=power, **metric) - n) <= 1


def test_promised_power_comes_true() -> None:
    rng, n = np.random.default_rng(0), 1500
    effect = minimum_detectable_effect(n, rate=0.05)
    arm = np.repeat([0, 1], n)
    found = sum(
        ab_test((rng.random(2 * n) < 0.05 + effect * arm).astype(float), arm)[1].p_value < 0.05
        for _ in range(500)
    )
    assert found / 500 == pytest.approx(0.8, abs=0.05)


def test_promised_power_of_several_looks_comes_true() -> None:
    rng, plan = np.random.default_rng(1), Plan(n_looks=5)
    effect = minimum_detectable_effect(1000, sd=1.0, plan=plan)
    assert effect > minimum_detectable_effect(1000, sd=1.0)
    arm = np.arange(2000) % 2
    found = sum(
        sequential_test(rng.normal(size=2000) + effect * arm, arm, looks=5).stopped_at[0] >= 0
        for _ in range(400)
    )
    assert found / 400 == pytest.approx(0.8, abs=0.055)


def test_covariates_and_comparisons_move_the_effect_as_they_should() -> None:
    plain = minimum_detectable_effect(4000, sd=1.0)
    assert minimum_detectable_effect(4000, sd=1.0, variance_cut=0.36) == pytest.approx(0.8 * plain)
    assert minimum_detectable_effect(4000, sd=1.0, plan=Plan(n_comparisons=5)) > plain


def test_baseline_measures_what_planning_needs() -> None:
    rng = np.random.default_rng(2)
    before = rng.normal(size=5000)
    y = 3 * before + 4 * rng.normal(size=5000)
    found = baseline(y, covariate=before)
    assert found.sd == pytest.approx(y.std(ddof=1))
    assert found.sd_adjusted == pytest.approx(4.0, rel=0.03)
    user = np.arange(5000) // 5
    views = rng.poisson(4, 5000) + 1.0
    ratio = baseline(y, denominator=views, groups=user)
    assert ratio.n_users == 1000
    # half-width that a test of two such halves has
    arm = user % 2
    result = ab_test(y, arm, denominator=views, groups=user)[1]
    half = (result.effect_high - result.effect_low) / 2
    assert 1.96 * ratio.sd * (2 / 500) ** 0.5 == pytest.approx(half, rel=0.03)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sd": 1.0, "rate": 0.1},
        {"sd": 0.0},
        {"rate": 1.0},
        {"sd": 1.0, "variance_cut": 1.0},
        {"sd": 1.0, "power": 1.0},
        {"sd": 1.0, "power": 0.04},
        {"sd": 1.0, "plan": Plan(n_looks=0)},
        {"rate": 0.99, "power": 0.999},
    ],
)
def test_bad_settings_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        minimum_detectable_effect(10, **options)


@pytest.mark.parametrize("n", ["a", 1, float("nan"), float("inf"), None])
def test_bad_numbers_of_users_are_refused(n: Any) -> None:
    with pytest.raises(ConfigError, match="n must be >= 2 and finite in both arms; got"):
        minimum_detectable_effect(n, sd=1.0)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="effect"):
        sample_size(0.0, sd=1.0)
    with pytest.raises(ConfigError, match="rate"):
        sample_size(0.5, rate=0.8)
    with pytest.raises(ConfigError, match="1e12"):
        sample_size(1e-9, sd=1.0)
