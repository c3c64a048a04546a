"""Intervals of the surface hold the truth, predictions are calibrated, torch says the same."""

from __future__ import annotations

import numpy as np
import pytest
from planted_trials import DEPTHS, campaign, offers

from promo_ray.errors import ConfigError
from promo_ray.evaluation.calibration import calibration
from promo_ray.response.surface_ensemble import SurfaceEnsemble
from promo_ray.response.surface_torch import TorchSurface

NEW = offers(
    {"mechanic": "percent_off", "depth_rate": 0.2},
    {"mechanic": "spend_threshold", "amount": 10.0, "threshold": 60.0},
    {"mechanic": "message"},
)


@pytest.fixture(scope="module")
def ensemble() -> SurfaceEnsemble:
    return SurfaceEnsemble.fit(campaign(3000, 0).log, DEPTHS, 0, n_halves=4)


def test_predictions_of_unseen_users_come_true(ensemble: SurfaceEnsemble) -> None:
    assert abs(ensemble.slope - 1.0) < 3 * ensemble.slope_se < 0.5
    fresh = campaign(4000, 3)
    found = ensemble.effects(fresh.log.x, fresh.log.basket, DEPTHS)
    for j in range(3):
        line = calibration(found.gross[:, j], fresh.gross[:, j])
        assert line.slope == pytest.approx(1.0, abs=0.25)
    np.testing.assert_allclose(found.discount.mean(axis=0), fresh.discount.mean(axis=0), rtol=0.08)


@pytest.mark.slow
def test_intervals_of_average_effects_hold_the_truth() -> None:
    hits = []
    users = campaign(2000, 77)
    for seed in range(20):
        small = SurfaceEnsemble.fit(campaign(1200, 100 + seed).log, DEPTHS, seed, n_halves=8)
        found = small.mean_intervals(users.log.x, users.log.basket, DEPTHS)
        for part, truth in ((found.gross, users.gross), (found.discount, users.discount)):
            hits.append((part.low <= truth.mean(axis=0)) & (truth.mean(axis=0) <= part.high))
    assert np.mean(hits) > 0.85  # 120 intervals, correlated within a log


def test_intervals_widen_where_nothing_was_tried(ensemble: SurfaceEnsemble) -> None:
    log = campaign(500, 5).log
    wide = offers(
        {"mechanic": "percent_off", "depth_rate": 0.2},
        {"mechanic": "percent_off", "depth_rate": 0.005},
    )
    found = ensemble.mean_intervals(log.x, log.basket, wide).gross
    width = found.high - found.low
    assert width[1] > width[0] > 0


def test_intervals_stand_around_the_prediction(ensemble: SurfaceEnsemble) -> None:
    net = ensemble.intervals(*_users(50), NEW).net
    assert net.value.shape == (50, 3)
    assert (net.low <= net.value).all()
    assert (net.value <= net.high).all()
    assert len(ensemble.halves) == 4


def test_torch_says_the_same(ensemble: SurfaceEnsemble) -> None:
    x, basket = _users(700)
    plain, tensor = (s.effects(x, basket, NEW) for s in (ensemble, TorchSurface(ensemble.surface)))
    np.testing.assert_allclose(tensor.gross, plain.gross, rtol=0, atol=1e-10)
    np.testing.assert_allclose(tensor.discount, plain.discount, rtol=0, atol=1e-10)
    none = TorchSurface(ensemble.surface).effects(x, basket, NEW.slice(0, 0))
    assert none.gross.shape == none.discount.shape == (700, 0)


def test_too_few_halves_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_halves must be >= 2"):
        SurfaceEnsemble.fit(campaign(300, 0).log, DEPTHS, 0, n_halves=1)


def _users(n: int) -> tuple[np.ndarray, np.ndarray]:
    log = campaign(n, 5).log
    return log.x, np.where(np.arange(n) % 7 == 0, np.nan, log.basket)
