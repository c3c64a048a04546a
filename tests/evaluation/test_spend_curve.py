from __future__ import annotations

import warnings

import numpy as np
import pytest

from promo_ray.errors import DataError
from promo_ray.evaluation.spend_curve import gain_curve


def test_gain_of_perfect_predictions_is_the_best_for_its_spend() -> None:
    rng = np.random.default_rng(10)
    value, cost = rng.normal(1.0, 1.0, (500, 2)), rng.uniform(0.5, 2.0, (500, 2))
    scores = np.column_stack([np.zeros(500), value])
    curve = gain_curve(value, cost, scores, n_points=30)
    assert (curve.spend[0], curve.gain[0]) == (0.0, 0.0)
    assert (np.diff(curve.spend) >= -1e-12).all()
    assert (np.diff(curve.gain) >= -1e-12).all()
    assert curve.gain[-1] == pytest.approx(np.maximum(value, 0).max(axis=1).mean())
    slopes = np.diff(curve.gain) / np.maximum(np.diff(curve.spend), 1e-12)
    used = np.diff(curve.spend) > 1e-9
    assert (np.diff(slopes[used]) <= 1e-6).all()  # every further unit of spend earns less
    assert ((curve.low <= curve.gain) & (curve.gain <= curve.high)).all()


def test_gain_of_worthless_offers_is_nothing() -> None:
    curve = gain_curve(np.full((20, 1), -1.0), np.ones((20, 1)), np.zeros((20, 2)))
    assert curve.spend.tolist() == curve.gain.tolist() == [0.0, 0.0]


def test_offers_that_cost_nothing_all_go_out_at_once() -> None:
    value = np.linspace(-1.0, 2.0, 40)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve = gain_curve(value, np.zeros((40, 1)), np.column_stack([np.zeros(40), value]))
    assert curve.spend.tolist() == [0.0, 0.0]
    assert curve.gain[-1] == pytest.approx(np.maximum(value, 0).mean())


def test_costs_must_not_be_negative() -> None:
    with pytest.raises(DataError, match="cost"):
        gain_curve(np.ones((3, 1)), -np.ones((3, 1)), np.ones((3, 2)))


def test_ties_do_not_depend_on_the_order_of_rows() -> None:
    n = 2000
    same, scores = np.ones((n, 1)), np.zeros((n, 2))
    scores[: n // 2, 1] = 1.0
    for one in (scores, scores[::-1]):
        assert gain_curve(same, same, one).at(0.5)[0] == pytest.approx(0.25)
    value = np.where(np.arange(n)[:, None] < n // 4, 2.0, 1.0)  # a quarter first, then a tie
    curve = gain_curve(value, same, scores)
    assert curve.at(0.25)[0] == pytest.approx(0.25)
    assert curve.at(0.625)[0] == pytest.approx(0.25 + 0.125)
    assert curve.gain[-1] == pytest.approx(0.5)


def test_few_users_leave_the_curve_without_interval() -> None:
    rng = np.random.default_rng(0)
    n = 1000
    value, cost = rng.random((n, 1)), 1.0 + rng.random((n, 1))
    scores = np.column_stack([np.zeros(n), value[:, 0]])
    curve = gain_curve(value, cost, scores, groups=np.arange(n) % 99)
    assert curve.at(0.5)[1:] == (-np.inf, np.inf)
    assert np.isfinite(gain_curve(value, cost, scores, groups=np.arange(n) % 100).low).all()


def test_one_heavy_row_hardly_moves_the_interval_to_its_side() -> None:
    n = 2000
    rng = np.random.default_rng(2)
    scores = np.column_stack([np.zeros(n), rng.normal(1.0, 1.0, n)])
    scores[0, 1] = 40.0  # half of the variance, all of the third moment
    gain, low, high = gain_curve(rng.random((n, 1)) + 1.0, np.ones((n, 1)), scores).at(1.0)
    assert 0.8 < (high - gain) / (gain - low) < 1.25
