from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promo_ray.pricing import PricingParams, WeeklyPanel, fit_elasticity, panel_of
from promo_ray.pricing.panel import WEEKLY_SALES
from promo_ray.pricing.pooling import pool

DATA = Path(os.environ.get("PROMO_RAY_DATA", Path(__file__).parents[2] / "../shared/data"))


def log_ols(panel: WeeklyPanel) -> np.ndarray:
    """Slopes of log units on log price with an item effect; weeks without sales left out."""
    slopes = []
    for units, price in zip(panel.units, panel.price, strict=True):
        x, y = np.log(price[units > 0]), np.log(units[units > 0])
        x = x - x.mean()
        slopes.append(x @ y / max(x @ x, 1e-12))
    return np.array(slopes)


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def test_pooled_elasticities_are_nearer_the_truth_than_single_ones_and_than_ols(make_panel):
    for seed in range(3):
        panel, truth = make_panel(seed, level=10.0, excess=0.03)
        found = fit_elasticity(panel)
        assert rmse(found.elasticity, truth) < 0.8 * rmse(found.raw, truth)
        assert rmse(found.elasticity, truth) < 0.8 * rmse(log_ols(panel), truth)


@pytest.mark.parametrize("excess", [0.0, 0.05])
def test_intervals_cover_the_truth_about_as_often_as_they_say(make_panel, excess):
    pooled, single = [], []
    for seed in range(8):
        panel, truth = make_panel(seed, excess=excess)
        found = fit_elasticity(panel)
        pooled.append(np.abs(found.elasticity - truth) < 1.645 * found.se)
        single.append(np.abs(found.raw - truth) < 1.645 * found.raw_se)
    assert 0.82 <= np.mean(pooled) <= 0.97
    assert 0.85 <= np.mean(single) <= 0.97


def test_single_estimates_are_unbiased_with_few_sales_and_many_zeros(make_panel):
    panel, truth = make_panel(4, n=600, t=60, level=1.0)
    assert (panel.units == 0).mean() > 0.3
    found = fit_elasticity(panel, PricingParams(pooling_strength=0.0))
    weight = 1 / found.raw_se**2
    assert abs(np.average(found.raw - truth, weights=weight)) < 0.1
    assert abs(np.average(log_ols(panel) - truth, weights=weight)) > 0.5  # what log loses


def test_common_weeks_that_move_with_prices_are_not_read_as_price_effects(make_panel):
    panel, truth = make_panel(5)
    # sales weeks: everyone discounts and, for other reasons, traffic doubles
    rng = np.random.default_rng(1)
    is_sale = rng.random(panel.units.shape[1]) < 0.25
    price = panel.price * np.where(is_sale, 0.8, 1.0)
    extra = (price / panel.price) ** truth[:, None] * np.where(is_sale, 2.0, 1.0)
    moved = panel._replace(price=price, units=rng.poisson(panel.units * extra).astype(float))
    with_week = fit_elasticity(moved, PricingParams(week_effect="week"))
    without = fit_elasticity(moved, PricingParams(week_effect="none"))
    assert np.mean(without.elasticity - truth) < -1.0
    assert abs(np.mean(with_week.elasticity - truth)) < 0.3


def test_item_whose_price_never_moved_gets_its_category(make_panel):
    panel, _ = make_panel(6)
    price = panel.price.copy()
    price[0] = 10.0
    found = fit_elasticity(panel._replace(price=price))
    assert np.isnan(found.raw[0])
    assert np.isinf(found.raw_se[0])
    assert found.elasticity[0] == pytest.approx(found.category_elasticity[0])
    assert found.se[0] > np.median(found.se)


def test_sign_guard_keeps_elasticities_below_zero(make_panel):
    panel, _ = make_panel(7)
    rng = np.random.default_rng(0)
    wrong = rng.poisson(20 * (panel.price / 10.0) ** 2.0).astype(float)
    found = fit_elasticity(panel._replace(units=wrong))
    assert (found.elasticity <= -0.1).all()
    assert found.is_guarded.mean() > 0.9


def test_order_of_items_does_not_matter(make_panel):
    panel, _ = make_panel(8, n=40)
    order = np.random.default_rng(0).permutation(40)
    moved = panel._replace(
        item_ids=tuple(panel.item_ids[i] for i in order),
        category=panel.category[order],
        units=panel.units[order],
        price=panel.price[order],
    )
    np.testing.assert_allclose(
        fit_elasticity(moved).elasticity, fit_elasticity(panel).elasticity[order], rtol=1e-6
    )


def test_one_item_one_week_and_no_moves_still_give_a_table():
    panel = WeeklyPanel(
        ("a",), ("",), np.zeros(1, int), 0, np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1), bool)
    )
    found = fit_elasticity(panel)
    assert found.elasticity[0] <= -0.1
    assert np.isinf(found.se[0])


def test_pooling_is_the_identity_without_error_and_the_mean_without_spread():
    estimate = np.array([-1.0, -2.0, -3.0, -4.0, -1.5, -2.5])
    group = np.array([0, 0, 0, 1, 1, 1])
    exact = pool(estimate, np.full(6, 1e-9), group, 2)
    np.testing.assert_allclose(exact.mean, estimate, atol=1e-6)
    vague = pool(estimate, np.full(6, 50.0), group, 2)
    np.testing.assert_allclose(vague.mean, estimate.mean(), atol=1e-6)
    alone = pool(estimate, np.full(6, 50.0), group, 2, strength=0.0)
    np.testing.assert_allclose(alone.mean, estimate)


def test_own_elasticity_of_orange_juice_is_that_of_the_literature():
    file = DATA / "orange_juice" / "sales.parquet"
    if not file.exists():
        pytest.skip(f"data set orange_juice is not at {file.parent}")
    sales = pq.read_table(file).to_pandas()
    own = np.choose(sales.brand.to_numpy() - 1, [sales[f"price{b}"] for b in range(1, 12)])
    units = np.rint(np.exp(sales.logmove.to_numpy())).astype(np.int64)
    ids = [f"b{b:02d}s{s:03d}" for b, s in zip(sales.brand, sales.store, strict=True)]
    cents = np.rint(units * own * 100).astype(np.int64)
    table = pa.table(
        {
            "item_id": ids,
            "week": sales.week.to_numpy().astype(np.int32),
            "units": units,
            "paid_cents": cents,
            "list_cents": cents,
        },
        schema=WEEKLY_SALES,
    )
    found = fit_elasticity(panel_of(table))
    # brand x store effects in log-log regressions give -3.14, with week effects -3.16
    assert -3.3 <= found.elasticity.mean() <= -2.5
    assert (found.raw < 0).all()
    assert len(found.item_ids) == 913
