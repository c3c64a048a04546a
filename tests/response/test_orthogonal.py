from __future__ import annotations

import numpy as np
import pytest
from planted_trials import trial

from promo_ray.errors import DataError
from promo_ray.response.nuisance import (
    arm_outcomes,
    balancing_weights,
    cross_fitted_mean,
    estimate_propensity,
    winsorize,
)
from promo_ray.response.orthogonal import aipw_scores
from promo_ray.response.trial import check_trial, folds_of


def test_score_is_the_model_plus_the_weighted_surprise_of_the_arm_taken() -> None:
    scores = aipw_scores(
        np.array([1, 0]), np.array([3.0, 1.0]), np.array([0.5, 0.25]), np.array([[1.0, 2.0]] * 2)
    )
    assert scores.tolist() == [[1.0, 4.0], [1.0, 2.0]]


@pytest.mark.parametrize("wrong", ["outcome", "propensity", "none"])
def test_mean_score_is_right_if_either_nuisance_is(wrong: str) -> None:
    data = trial(40_000, 5, confounding=0.6)
    n = len(data.arm)
    q_hat = np.zeros((n, 3))
    if wrong != "outcome":
        q_hat = (5.0 + 2.0 * data.x[:, 1])[:, None] + np.column_stack([np.zeros(n), data.effect])
    propensity = np.full(n, 1 / 3) if wrong == "propensity" else data.propensity
    scores = aipw_scores(data.arm, data.outcome, propensity, q_hat)
    found = (scores[:, 1:] - scores[:, :1]).mean(axis=0)
    np.testing.assert_allclose(found, data.effect.mean(axis=0), atol=0.15)


def test_both_nuisances_wrong_is_biased() -> None:
    data = trial(40_000, 5, confounding=0.6)
    n = len(data.arm)
    scores = aipw_scores(data.arm, data.outcome, np.full(n, 1 / 3), np.zeros((n, 3)))
    assert abs((scores[:, 1] - scores[:, 0]).mean() - 1.0) > 0.4


def test_cross_fitted_outcomes_do_not_see_their_own_row() -> None:
    data = trial(600, 1)
    groups = np.arange(600)
    before = arm_outcomes(data.x, data.arm, data.outcome, groups, 3)
    changed = data.outcome.copy()
    changed[17] += 1000.0
    after = arm_outcomes(data.x, data.arm, changed, groups, 3)
    same_fold = folds_of(groups, 600, 5, 0) == folds_of(groups, 600, 5, 0)[17]
    np.testing.assert_array_equal(before[same_fold], after[same_fold])
    assert not np.array_equal(before, after)


def test_estimated_propensity_finds_the_design() -> None:
    data = trial(20_000, 2, confounding=0.7)
    folds = folds_of(None, 20_000, 3, 0)
    found = estimate_propensity(data.x, data.arm, folds, 3)
    assert np.abs(found - data.propensity).mean() < 0.01


def test_weights_make_arms_alike() -> None:
    data = trial(40_000, 2, confounding=0.7)
    rows = check_trial(data.x, data.arm, data.outcome, data.propensity)
    weight, shares = balancing_weights(rows)
    assert shares.sum() == pytest.approx(1.0)
    raw = [data.x[data.arm == a, 1].mean() for a in range(3)]
    means = [np.average(data.x[data.arm == a, 1], weights=weight[data.arm == a]) for a in range(3)]
    assert np.ptp(raw) > 0.5
    assert np.ptp(means) < 0.08


def test_rare_outcomes_are_not_cut_to_zero() -> None:
    y = np.zeros(10_000)
    y[:50] = 1.0
    np.testing.assert_array_equal(winsorize(y), y)


def test_heavy_tail_is_cut_for_the_nuisance_only() -> None:
    rng = np.random.default_rng(0)
    y = rng.exponential(size=5000)
    y[0] = 1e6
    mean = cross_fitted_mean(
        rng.normal(size=(5000, 2)), np.zeros(5000, int), y, np.ones(5000), np.arange(5000) % 3, 1
    )
    assert mean.out_of_fold.mean() == pytest.approx(1.0, abs=0.1)
    scores = aipw_scores(np.zeros(5000, int), y, np.ones(5000), mean.of_arms)
    assert scores.mean() == pytest.approx(y.mean())


def test_arms_that_never_meet_are_refused() -> None:
    x = np.random.default_rng(3).normal(size=(2000, 2))
    arm = (x[:, 0] > 0).astype(int)
    with pytest.raises(DataError, match=r"no overlap: arm \d has next to no chance"):
        estimate_propensity(x, arm, folds_of(None, 2000, 2, 0), 2)
