from __future__ import annotations

import numpy as np
import pytest

from promo_ray.errors import ConfigError, DataError
from promo_ray.evaluation.calibration import calibration


def test_true_predictions_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    effect = rng.normal(size=20_000)
    found = calibration(effect, effect + 3.0 * rng.normal(size=20_000))
    assert found.n.tolist() == [2000] * 10
    assert (np.diff(found.predicted) > 0).all()
    inside = (found.low <= found.predicted) & (found.predicted <= found.high)
    assert inside.sum() >= 8
    assert abs(found.slope - 1.0) < 3 * found.slope_se
    assert found.slope_se == pytest.approx(3.0 / 20_000**0.5, rel=0.1)


def test_exaggerated_predictions_have_a_slope_below_one() -> None:
    rng = np.random.default_rng(1)
    effect = rng.normal(size=5000)
    found = calibration(2.0 * effect, effect + 0.1 * rng.normal(size=5000), n_bins=4)
    assert found.slope == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(found.observed, found.predicted / 2, atol=0.02)


def test_bins_of_equal_predictions_fall_together() -> None:
    found = calibration(np.repeat([1.0, 2.0], 50), np.arange(100.0))
    assert found.n.tolist() == [50, 50]
    assert found.observed.tolist() == [24.5, 74.5]
    one = calibration(np.ones(30), np.arange(30.0))
    assert one.n.tolist() == [30]
    assert np.isnan(one.slope)


def test_repeated_rows_of_a_user_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(2)
    effect, score = rng.normal(size=400), rng.normal(size=400)
    once = calibration(effect, score, n_bins=3)
    users = np.repeat(np.arange(400), 4)
    often = calibration(np.repeat(effect, 4), np.repeat(score, 4), n_bins=3, groups=users)
    np.testing.assert_allclose(often.high - often.low, once.high - once.low, rtol=1e-6)
    assert often.slope_se == pytest.approx(once.slope_se, rel=1e-6)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="n_bins"):
        calibration([1.0], [1.0], n_bins=0)
    with pytest.raises(DataError, match="score_difference"):
        calibration([1.0, 2.0], [1.0])
