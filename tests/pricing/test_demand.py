from __future__ import annotations

import numpy as np
import pytest

from promo_ray.errors import DataError
from promo_ray.pricing import (
    PricingParams,
    holdout_loss,
    rolling_losses,
    units_at,
)


def test_units_at_another_price_follow_the_curve(make_panel):
    panel, truth = make_panel(0, n=80, t=60, level=200.0)
    flat = panel._replace(
        units=200.0 * (panel.price / 10.0) ** truth[:, None],
    )
    low, high = np.nanmin(panel.price, axis=1), np.nanmax(panel.price, axis=1)
    for price in (low, 0.5 * (low + high), high):
        expected = 200.0 * (price / 10.0) ** truth
        np.testing.assert_allclose(units_at(flat, truth, price, 8.0), expected)


def test_prices_never_seen_promise_no_more_than_the_nearest_one_seen(make_panel):
    panel, truth = make_panel(0, n=20, t=30)
    low, high = np.nanmin(panel.price, axis=1), np.nanmax(panel.price, axis=1)
    for seen, beyond in ((low, 0.25 * low), (high, 4.0 * high)):
        at_edge = units_at(panel, truth, seen, 8.0)
        np.testing.assert_array_equal(units_at(panel, truth, beyond, 8.0), at_edge)


def test_short_memory_follows_a_jump_of_the_level(make_panel):
    panel, _ = make_panel(0, n=5, t=20)
    units = np.ones((5, 20))
    units[:, -3:] = 9.0
    steady = panel._replace(units=units, price=np.full((5, 20), 10.0))
    price, slope = np.full(5, 10.0), np.full(5, -2.0)
    assert (units_at(steady, slope, price, 1.0) > 7.0).all()
    assert (units_at(steady, slope, price, 1000.0) < 2.5).all()


def test_items_never_on_sale_are_expected_to_sell_nothing(make_panel):
    panel, truth = make_panel(0, n=4, t=10)
    closed = panel._replace(is_open=np.zeros((4, 10), bool), price=np.full((4, 10), np.nan))
    assert units_at(closed, truth, np.full(4, 10.0), 8.0).tolist() == [0.0] * 4


def test_loss_is_near_what_perfect_knowledge_leaves(make_panel):
    panel, _ = make_panel(1, level=100.0)
    loss = holdout_loss(PricingParams(), panel, 4)
    blind = holdout_loss(PricingParams(week_effect="none", pooling_strength=1e9), panel, 4)
    assert loss < 0.3
    assert loss <= blind * 1.02


def test_partial_losses_end_in_the_whole_loss(make_panel):
    panel, _ = make_panel(2, n=30)
    partial = list(rolling_losses(PricingParams(), panel, 5))
    assert len(partial) == 5
    assert partial[-1] == holdout_loss(PricingParams(), panel, 5)


def test_held_out_units_never_reach_the_forecast_of_their_week(make_panel):
    panel, _ = make_panel(3, n=30, t=20)
    changed = panel.units.copy()
    changed[:, -1] += 7.0
    before = list(rolling_losses(PricingParams(), panel, 2))
    after = list(rolling_losses(PricingParams(), panel._replace(units=changed), 2))
    assert before[0] == after[0]
    hoped_of = []
    for source in (panel, panel._replace(units=changed)):
        last = next(iter(rolling_losses(PricingParams(), source, 1)))
        hoped_of.append(last * source.units[:, -1].sum())
    assert hoped_of[0] != hoped_of[1]  # the loss sees them, as it must


@pytest.mark.parametrize("weeks", [0, 38])
def test_holdout_must_leave_weeks_to_learn_from(make_panel, weeks):
    panel, _ = make_panel(0)
    with pytest.raises(DataError, match="holdout_weeks"):
        holdout_loss(PricingParams(), panel, weeks)
