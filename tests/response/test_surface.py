from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from planted_trials import DEPTHS, campaign, offers

from promo_ray.response.model import ResponseModel
from promo_ray.response.offer_features import (
    IS_MONOTONE,
    N_BASIS,
    N_FEATURES,
    PairFeatures,
    TermScale,
    pair_features,
)
from promo_ray.response.surface import ResponseSurface


@pytest.fixture(scope="module")
def surface() -> ResponseSurface:
    return ResponseModel.fit(campaign(6000, 0).log, DEPTHS, 0).surface


def _features(basket: NDArray[np.float64], table: pa.Table, typical: float) -> PairFeatures:
    return pair_features(np.zeros((len(basket), 0)), basket, table, TermScale(typical))


def test_features_have_the_announced_width() -> None:
    pairs = _features(np.array([20.0, 50.0]), DEPTHS, 30.0)
    assert pairs.of_offer(0).shape == (2, N_FEATURES) == (2, len(IS_MONOTONE))
    assert pairs.basis().shape == (2, 3, N_BASIS)
    assert (pairs.of_rows(np.array([-1, -1])) == 0).all()


def test_savings_follow_the_terms() -> None:
    table = offers(
        {"mechanic": "percent_off", "depth_rate": 0.2},
        {"mechanic": "amount_off", "amount": 10.0},
        {"mechanic": "amount_off", "amount": 100.0},
        {"mechanic": "product_bundle", "depth_rate": 0.3, "item_ids": ["a", "b"]},
        {"mechanic": "message"},
        {"mechanic": "percent_off", "depth_rate": 0.2, "scope": "Tea"},
    )
    pairs = _features(np.array([40.0, np.nan]), table, 50.0)
    np.testing.assert_allclose(pairs.saving[0], [0.2, 0.25, 1.0, 0.0, 0.0, 0.05])
    np.testing.assert_allclose(pairs.saving[1], [0.2, 0.2, 1.0, 0.0, 0.0, 0.05])
    np.testing.assert_allclose(pairs.nominal[0], [8.0, 10.0, 40.0, 15.0, 0.0, 2.0])


def test_threshold_out_of_reach_saves_nothing() -> None:
    table = offers(
        {"mechanic": "spend_threshold", "amount": 10.0, "threshold": 30.0},
        {"mechanic": "spend_threshold", "amount": 10.0, "threshold": 400.0},
    )
    pairs = _features(np.array([40.0]), table, 40.0)
    assert pairs.reach[0, 0] > 0.85
    assert pairs.reach[0, 1] < 1e-4
    assert pairs.saving[0, 1] < pairs.saving[0, 0] <= 0.25


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 0.9), st.floats(0, 0.9), st.sampled_from(["percent_off", "product_bundle"]))
def test_deeper_offers_never_do_or_cost_less(
    surface: ResponseSurface, a: float, b: float, mechanic: str
) -> None:
    rows = [{"mechanic": mechanic, "depth_rate": d} for d in sorted((a, b))]
    _check_order(surface, rows)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 60), st.floats(0, 60), st.sampled_from(["amount_off", "spend_threshold"]))
def test_larger_amounts_never_do_or_cost_less(
    surface: ResponseSurface, a: float, b: float, mechanic: str
) -> None:
    threshold = 60.0 if mechanic == "spend_threshold" else None
    rows = [{"mechanic": mechanic, "amount": v, "threshold": threshold} for v in sorted((a, b))]
    _check_order(surface, rows)


def _check_order(surface: ResponseSurface, rows: list[dict[str, object]]) -> None:
    log = campaign(300, 5).log
    found = surface.effects(log.x, log.basket, offers(*rows))
    assert (np.diff(found.gross, axis=1) >= -1e-9).all()
    assert (np.diff(found.discount, axis=1) >= -1e-9).all()
    assert (found.discount >= 0).all()


def test_offers_never_tried_are_foretold_from_their_terms(surface: ResponseSurface) -> None:
    fresh = campaign(3000, 9)
    found = surface.effects(
        fresh.log.x, fresh.log.basket, offers({"mechanic": "percent_off", "depth_rate": 0.2})
    )
    lift = np.where(fresh.log.x[:, 0] > 0, 1.0, 0.1) * (1.0 - np.exp(-2.0))
    assert np.corrcoef(found.gross[:, 0], 20.0 * lift)[0, 1] > 0.85
    assert found.gross.mean() == pytest.approx((20.0 * lift).mean(), rel=0.15)
    assert found.discount.mean() == pytest.approx((0.1 * fresh.log.basket).mean(), rel=0.1)


def test_message_costs_nothing(surface: ResponseSurface) -> None:
    log = campaign(50, 1).log
    assert (surface.effects(log.x, log.basket, offers({"mechanic": "message"})).discount == 0).all()
