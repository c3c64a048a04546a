from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_ray.errors import DataError
from promo_ray.evaluation.curves import qini, qini_curve, uplift_at


def brute_curve(score: Any, treatment: Any, outcome: Any) -> tuple[list[float], list[float]]:
    """Q(f) = (Yt - Yc Nt / Nc) / Nt(1), row by row; scores must differ."""
    order = sorted(range(len(score)), key=lambda i: -score[i])
    x, y = [0.0], [0.0]
    for k in range(1, len(order) + 1):
        top = order[:k]
        treated, control = [i for i in top if treatment[i]], [i for i in top if not treatment[i]]
        y_t, y_c = sum(outcome[i] for i in treated), sum(outcome[i] for i in control)
        scaled = y_c * len(treated) / len(control) if control else 0.0
        x.append(k / len(order))
        y.append((y_t - scaled) / sum(treatment))
    return x, y


def brute_area(x: list[float], y: list[float]) -> float:
    total = 0.0
    for a in range(len(x) - 1):
        left, right = y[a] - x[a] * y[-1], y[a + 1] - x[a + 1] * y[-1]
        total += (x[a + 1] - x[a]) * (left + right) / 2
    return total


def random_trial(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    treatment = (rng.random(n) < 0.6).astype(int)
    treatment[:2] = [0, 1]
    return rng.permutation(n).astype(float), treatment, rng.normal(size=n)


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 40), st.integers(0, 10_000))
def test_qini_is_its_definition(n: int, seed: int) -> None:
    score, treatment, outcome = random_trial(n, seed)
    x, y = brute_curve(score, treatment, outcome)
    found = qini_curve(score, treatment, outcome)
    np.testing.assert_allclose(found.x, x, atol=1e-12)
    np.testing.assert_allclose(found.y, y, atol=1e-12)
    measure = qini(score, treatment, outcome)  # too few users for an interval
    assert measure.value == pytest.approx(brute_area(x, y), abs=1e-12)
    assert np.isnan(measure.low)
    assert np.isnan(qini(*random_trial(200, seed), n_boot=0).low)


def test_curve_ends_at_the_average_effect() -> None:
    score, treatment, outcome = random_trial(200, 3)
    effect = outcome[treatment == 1].mean() - outcome[treatment == 0].mean()
    assert qini_curve(score, treatment, outcome).y[-1] == pytest.approx(effect)
    assert uplift_at(score, treatment, outcome, 1.0, n_boot=0).value == pytest.approx(effect)


def test_average_order_of_ties_is_the_mean_of_random_orders() -> None:
    rng = np.random.default_rng(5)
    score = np.repeat([3.0, 2.0, 1.0], 200)
    treatment, outcome = rng.integers(0, 2, 600), rng.normal(size=600)
    outcome += score * treatment
    draws = []
    for seed in range(200):
        curve = qini_curve(score, treatment, outcome, seed=seed)
        draws.append(np.trapezoid(curve.y - curve.x * curve.y[-1], curve.x))
    found = qini(score, treatment, outcome, n_boot=0).value
    assert found == pytest.approx(np.mean(draws), abs=4 * np.std(draws) / 200**0.5 + 2e-3)


def test_constant_score_has_no_qini() -> None:
    _, treatment, outcome = random_trial(300, 6)
    assert qini(np.zeros(300), treatment, outcome, n_boot=0).value == pytest.approx(0.0)


def test_order_of_rows_does_not_matter() -> None:
    score, treatment, outcome = random_trial(300, 7)
    score = np.round(score / 50)
    shuffle = np.random.default_rng(0).permutation(300)
    one = qini(score, treatment, outcome, n_boot=0).value
    two = qini(score[shuffle], treatment[shuffle], outcome[shuffle], n_boot=0).value
    assert one == pytest.approx(two, abs=1e-12)


def test_uplift_at_takes_the_top_scores() -> None:
    score = np.arange(10.0)
    treatment = np.array([0, 1] * 5)
    outcome = np.arange(10.0) ** 2
    want = (81 + 49) / 2 - (64 + 36) / 2
    assert uplift_at(score, treatment, outcome, 0.4, n_boot=0).value == pytest.approx(want)


def test_inverse_propensity_undoes_uneven_assignment() -> None:
    rng = np.random.default_rng(8)
    n = 40_000
    x = rng.random(n)
    chance = 0.2 + 0.6 * x
    treatment = (rng.random(n) < chance).astype(int)
    outcome = 3.0 * x + treatment + 0.1 * rng.normal(size=n)
    own = np.where(treatment == 1, chance, 1 - chance)
    weighted = uplift_at(rng.random(n), treatment, outcome, 1.0, propensity=own, n_boot=0)
    plain = uplift_at(rng.random(n), treatment, outcome, 1.0, n_boot=0)
    assert weighted.value == pytest.approx(1.0, abs=0.05)
    assert plain.value > 1.4


def test_bootstrap_interval_covers_the_true_qini() -> None:
    # score u uniform, effect u: Q(f) - f Q(1) = f (1 - f) / 2, so qini = 1 / 12
    hits, spread, errors = 0, [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        u, treatment = rng.random(600), rng.integers(0, 2, 600)
        outcome = treatment * u + 0.3 * rng.normal(size=600)
        found = qini(u, treatment, outcome, n_boot=80, seed=seed)
        hits += found.low <= 1 / 12 <= found.high
        spread.append(found.value)
        errors.append(found.se)
    assert np.mean(spread) == pytest.approx(1 / 12, abs=0.006)
    assert np.mean(errors) == pytest.approx(np.std(spread), rel=0.3)
    assert hits >= 51


def test_bootstrap_draws_users_not_rows() -> None:
    score, treatment, outcome = random_trial(300, 9)
    one = qini(score, treatment, outcome, n_boot=150)
    users = np.repeat(np.arange(300), 5)
    many = qini(*(np.repeat(v, 5) for v in (score, treatment, outcome)), groups=users, n_boot=150)
    assert many.se == pytest.approx(one.se, rel=0.15)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"score": [1.0, np.nan, 2.0, 3.0]}, "score"),
        ({"treatment": [0, 0, 0, 0]}, "treatment"),
        ({"treatment": [0, 1, 2, 1]}, "treatment"),
        ({"outcome": [1.0, 2.0]}, "outcome"),
        ({"propensity": [0.5, 0.5, 0.0, 0.5]}, "propensity"),
        ({"groups": [1]}, "groups"),
    ],
)
def test_bad_input_names_its_argument(change: dict[str, Any], where: str) -> None:
    good = {
        "score": [1.0, 2.0, 3.0, 4.0],
        "treatment": [0, 1, 0, 1],
        "outcome": [1.0, 2.0, 3.0, 4.0],
    }
    with pytest.raises(DataError) as caught:
        qini(**(good | change))
    assert caught.value.where == where


def test_fraction_must_make_sense() -> None:
    with pytest.raises(DataError, match="fraction"):
        uplift_at([1.0, 2.0], [0, 1], [1.0, 1.0], 0.0)
