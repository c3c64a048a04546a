from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, lists
from scipy.stats import norm

from promo_ray.errors import ConfigError
from promo_ray.evaluation.ab import ab_test
from promo_ray.evaluation.ab_sequential import sequential_test
from promo_ray.evaluation.sequential import (
    always_valid_critical,
    always_valid_p_value,
    crossing,
    look_boundaries,
    stagewise_p_value,
)

FIVE = [0.2, 0.4, 0.6, 0.8, 1.0]


def test_boundaries_of_the_published_tables() -> None:
    # Reboussin, DeMets, Kim and Lan 2000 (program of the Lan-DeMets method), two-sided 0.05
    assert look_boundaries(FIVE, 0.95, "obrien_fleming") == pytest.approx(
        [4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4
    )
    assert look_boundaries(FIVE, 0.95, "pocock") == pytest.approx(
        [2.4380, 2.4268, 2.4101, 2.3966, 2.3859], abs=2e-4
    )
    assert look_boundaries([1.0]) == pytest.approx([norm.ppf(0.975)])


# Jennison and Turnbull 2000, tables 2.1 and 2.3: constants of Pocock's and O'Brien and Fleming's
# own tests, two-sided 0.05
@pytest.mark.parametrize(
    ("n_looks", "pocock", "obrien_fleming"),
    [(2, 2.178, 1.977), (5, 2.413, 2.040), (10, 2.555, 2.087), (20, 2.672, 2.126)],
)
def test_crossing_chances_of_the_published_constants(
    n_looks: int, pocock: float, obrien_fleming: float
) -> None:
    shares = [(k + 1) / n_looks for k in range(n_looks)]
    for critical in ([pocock] * n_looks, [obrien_fleming / t**0.5 for t in shares]):
        found = crossing(shares, critical)
        assert found.above.sum() + found.below.sum() == pytest.approx(0.05, abs=2e-4)


@settings(max_examples=25, deadline=None)
@given(gaps=lists(floats(0.02, 1.0), min_size=1, max_size=12), drift=floats(-4, 4))
def test_uneven_looks_spend_exactly_the_level(gaps: list[float], drift: float) -> None:
    shares = (np.cumsum(gaps) / np.sum(gaps)).tolist()
    shares[-1] = 1.0
    critical = look_boundaries(shares, 0.9, "pocock")
    found = crossing(shares, critical.tolist())
    assert found.above.sum() == pytest.approx(0.05, abs=1e-7)
    assert found.below.sum() == pytest.approx(0.05, abs=1e-7)
    up, down = (
        crossing(shares, critical.tolist(), drift),
        crossing(shares, critical.tolist(), -drift),
    )
    assert up.above == pytest.approx(down.below, abs=1e-9)
    # earlier boundaries do not depend on later looks
    assert look_boundaries(shares[:1], 0.9, "pocock") == pytest.approx(critical[:1])


def test_crossing_chances_by_simulation() -> None:
    rng = np.random.default_rng(0)
    steps = rng.normal(0.2 * 2.5, 0.2**0.5, (200_000, 5))
    z = steps.cumsum(axis=1) / np.array(FIVE) ** 0.5
    critical = look_boundaries(FIVE, 0.95, "pocock")
    is_out = np.abs(z) >= critical
    first = np.where(is_out.any(axis=1), is_out.argmax(axis=1), 9)
    want = [((first == k) & (z[:, k] > 0)).mean() for k in range(5)]
    assert crossing(FIVE, critical.tolist(), 2.5).above == pytest.approx(want, abs=0.004)


def test_stagewise_p_value_meets_the_level_at_the_boundary() -> None:
    critical = look_boundaries(FIVE).tolist()
    assert stagewise_p_value(FIVE, critical, critical[-1]) == pytest.approx(0.05, abs=1e-6)
    assert stagewise_p_value([1.0], [1.96], 2.5) == pytest.approx(2 * norm.sf(2.5))
    early = stagewise_p_value(FIVE[:2], critical, 3.5)
    assert early < stagewise_p_value(FIVE[:3], critical, 3.5)


@given(z=floats(0, 30), ratio=floats(1e-3, 1e3))
def test_always_valid_p_value_and_boundary_agree(z: float, ratio: float) -> None:
    critical = always_valid_critical(ratio)
    if abs(z - critical) > 1e-9:
        assert (always_valid_p_value(z, ratio) <= 0.05) == (z >= critical)


def test_always_valid_boundary_is_narrowest_where_it_is_tuned() -> None:
    # width of the interval relative to the one look that would be made there
    found = {n: always_valid_critical(n / 5000) / n**0.5 for n in (1000, 5000, 20_000)}
    tuned = {n: always_valid_critical(1.0) / n**0.5 for n in (1000, 5000, 20_000)}
    assert all(found[n] >= tuned[n] - 1e-3 for n in found)
    # Waudby-Smith et al. 2024, eq. (7) with rho from its optimal choice, written out
    rho2 = (-2 * np.log(0.05) + np.log(-2 * np.log(0.05) + 1)) / 5000
    t = 12_000
    want = (2 * (t * rho2 + 1) / (t**2 * rho2) * np.log((t * rho2 + 1) ** 0.5 / 0.05)) ** 0.5
    assert always_valid_critical(t / 5000) / t**0.5 == pytest.approx(want)


def _false_alarms(n_trials: int, **options: object) -> int:
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(n_trials):
        found = sequential_test(rng.exponential(size=4000), np.arange(4000) % 2, **options)
        alarms += int(found.stopped_at[0] >= 0)
    return alarms


@pytest.mark.parametrize("spending", ["pocock", "obrien_fleming"])
def test_twenty_planned_looks_err_as_often_as_one(spending: str) -> None:
    assert 8 <= _false_alarms(400, looks=20, spending=spending) <= 33  # 20 expected


def test_looks_at_any_time_err_at_most_as_promised() -> None:
    assert _false_alarms(100, tuned_for=1000) <= 7


def test_effect_is_found_early_and_later_rows_do_not_change_the_past() -> None:
    rng = np.random.default_rng(2)
    arm = np.arange(20_000) % 2
    outcome = rng.normal(size=20_000) + 0.1 * arm
    whole = sequential_test(outcome, arm, looks=20)
    k = int(whole.stopped_at[0])
    assert 0 <= k < 15
    assert whole.verdicts == ("better",)
    assert whole.p_value[0] < 0.05
    assert whole.low[k, 0] > 0
    part = sequential_test(outcome[:12_345], arm[:12_345], looks=20, n_planned=20_000)
    assert part.n.tolist() == whole.n[:12].tolist()
    assert part.critical == pytest.approx(whole.critical[:12])
    assert part.effect == pytest.approx(whole.effect[:12])
    nothing = sequential_test(rng.normal(size=500), arm[:500], looks=20, n_planned=20_000)
    assert nothing.verdicts == ("withheld",)  # no look was reached


def test_clusters_and_covariates_are_as_in_the_plain_test() -> None:
    rng = np.random.default_rng(3)
    user = rng.integers(0, 800, 5000)
    arm, taste = user % 2, rng.normal(size=800)[user]
    outcome = taste + rng.normal(size=5000)
    options = {"groups": user, "covariate": taste}
    found = sequential_test(outcome, arm, looks=[1000, 5000], **options)
    plain = ab_test(outcome, arm, **options)[1]
    assert found.effect[-1, 0] == pytest.approx(plain.effect)
    assert (
        found.se[-1, 0] < 0.5 * sequential_test(outcome, arm, looks=[5000], groups=user).se[-1, 0]
    )


def test_many_arms_share_the_level() -> None:
    rng = np.random.default_rng(4)
    arm = np.arange(12_000) % 3
    found = sequential_test(rng.normal(size=12_000) + 0.2 * (arm == 2), arm, looks=4)
    assert found.verdicts == ("not shown", "better")
    assert found.critical == pytest.approx(look_boundaries([0.25, 0.5, 0.75, 1.0], 0.975, "pocock"))


def test_lost_users_withhold_the_verdict() -> None:
    rng = np.random.default_rng(5)
    arm = (rng.random(20_000) < 0.55).astype(int)
    found = sequential_test(rng.normal(size=20_000) + arm, arm, looks=5, expected=[1, 1])
    assert found.verdicts == ("withheld",)
    assert "sample_ratio" in found.withheld[0]


@settings(max_examples=20, deadline=None)
@given(n=integers(2, 60))
def test_small_or_flat_data_never_stop(n: int) -> None:
    found = sequential_test(np.ones(n), np.arange(n) % 2, looks=2)
    assert found.stopped_at.tolist() == [-1]
    assert found.verdicts == ("withheld",)


def test_bad_plans_are_refused() -> None:
    y, arm = np.zeros(300), np.arange(300) % 2
    with pytest.raises(ConfigError, match="rise"):
        sequential_test(y, arm, looks=[200, 100])
    with pytest.raises(ConfigError, match="exceed"):
        sequential_test(y, arm, looks=[200, 300], n_planned=250)
    with pytest.raises(ConfigError, match="method"):
        sequential_test(y, arm, method="magic")
    with pytest.raises(ConfigError, match="looks"):
        sequential_test(y, arm, looks=0)
    with pytest.raises(ConfigError, match="spending"):
        sequential_test(y, arm, looks=1, spending="magic")
    bad: list[dict[str, Any]] = [
        {"looks": "a"}, {"looks": 2.5}, {"looks": [1.5, 7]}, {"looks": 2, "n_planned": "a"},
        {"looks": 2, "n_planned": 1.5}, {"tuned_for": float("nan")}, {"tuned_for": "a"},
        {"level": "a"},
    ]  # fmt: skip
    for options in bad:
        with pytest.raises(ConfigError, match=f"{[*options][-1]} must"):
            sequential_test(y, arm, **options)
    with pytest.raises(ConfigError, match="rise within"):
        look_boundaries([0.5, 1.2])
