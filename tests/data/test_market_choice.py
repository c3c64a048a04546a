"""Visits, categories, items and units: every effect alone moves what it must, and no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from market_cases import plain
from numpy.typing import NDArray
from scipy.special import expit, softmax

from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.day import calendar
from promo_ray.data.market.households import households_of
from promo_ray.data.market.simulator import MarketSimulator
from promo_ray.data.market.supply import felt_log_price, supply_of


def _units(market: MarketSimulator, depth: NDArray[np.float64] | None = None) -> NDArray[np.int64]:
    """Units by day and item without any offer."""
    ids = market.user_ids()
    world = market.world(depth=depth)
    return market.run(ids, [world], np.zeros((len(ids), 1)))[0].totals.units


def _promotion(
    market: MarketSimulator, depth: float = 0.3, days: slice = slice(7, 14), item: int = 0
) -> NDArray[np.float64]:
    plan = np.zeros((market.config.horizon_days, market.config.n_items))
    plan[days, item] = depth
    return plan


def _change(
    market: MarketSimulator, depth: float = 0.3
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Change of units by day and item by a week's promotion of item 0, and units without it."""
    none = np.zeros((market.config.horizon_days, market.config.n_items))
    without = _units(market, none)
    return _units(market, _promotion(market, depth)) - without, without


def test_visits_categories_and_units_have_their_closed_forms() -> None:
    market = plain(3000)
    config, supply = market.config, supply_of(market.config)
    result = market.replay(market.user_ids(), windows=(42,))
    n_days = config.n_users * config.horizon_days
    rate = 1.0 - np.exp(-config.visits_per_week / 7.0)
    n_visits = result.actual.visits.sum()
    assert n_visits == pytest.approx(n_days * rate, abs=5 * np.sqrt(n_days * rate))
    by_item = result.totals.units.sum(axis=0)
    chance = supply.demand.repeat(5) * softmax(supply.appeal.reshape(4, 5), axis=1).ravel()
    mean = n_visits * chance * (1.0 + config.extra_units)
    assert np.abs(by_item - mean).max() < 5 * np.sqrt(2.0 * mean.max())
    some = 1.0 - np.prod(1.0 - supply.demand)
    assert result.totals.orders.sum() == pytest.approx(n_visits * some, rel=0.02)


def test_items_follow_the_multinomial_logit_of_felt_prices() -> None:
    market = plain(3000, n_categories=1, sensitivity=2.0, visits_per_week=5.0)
    supply = supply_of(market.config)
    plan = np.zeros((42, 5))
    plan[:, 1] = 0.3
    by_item = _units(market, plan).sum(axis=0)
    x = felt_log_price(market.config, supply, plan[0])
    share = softmax(supply.appeal - 2.0 * x)
    n = by_item.sum()
    assert np.abs(by_item / n - share).max() < 5 * np.sqrt(0.4 / n)


def test_switching_alone_is_the_whole_bump() -> None:
    market = plain()
    found = market.promotion_bump(market.user_ids(), market_items(market), n_replicates=2)
    assert found.bump > 0
    assert found.shares == pytest.approx([1.0, 0.0, 0.0])
    assert found.halo == 0.0
    change, _ = _change(market)
    assert change[:, 5:].any() == np.False_
    assert change.sum() == 0


def market_items(market: MarketSimulator) -> list[str]:
    return [supply_of(market.config).item_ids[0]]


def test_insensitive_households_do_not_respond_at_all() -> None:
    change, _ = _change(plain(300, sensitivity=0.0))
    assert not change.any()


def test_category_pull_grows_the_category_by_its_closed_form() -> None:
    market = plain(4000, incidence_pull=1.0, visits_per_week=5.0)
    supply = supply_of(market.config)
    change, without = _change(market)
    x = felt_log_price(market.config, supply, _promotion(market)[7])
    gain = np.log(np.exp(supply.appeal - market.config.sensitivity * x)[:5].sum())
    logit = np.log(supply.demand[0] / (1.0 - supply.demand[0]))
    ratio = expit(logit + gain) / supply.demand[0]
    category = slice(0, 5)
    measured = change[7:14, category].sum() / without[7:14, category].sum()
    assert measured == pytest.approx(ratio - 1.0, rel=0.15)
    assert not change[14:].any()


def test_quantity_pull_raises_units_and_not_lines() -> None:
    market = plain(quantity_pull=1.5)
    change, _ = _change(market)
    assert change[7:14, 0].sum() > -change[7:14, 1:5].sum()
    ids, zero = market.user_ids(), np.zeros((2000, 2))
    worlds = [market.world(depth=d) for d in (_promotion(market), 0 * _promotion(market))]
    a, b = market.run(ids, worlds, zero)
    assert np.array_equal(a.actual.orders, b.actual.orders)


def test_halo_reaches_the_partner_category_only() -> None:
    change, _ = _change(plain(halo_strength=1.0))
    assert change[7:14, 5:10].sum() > 0
    assert not change[:, 10:].any()


def test_stock_at_home_takes_from_later_days() -> None:
    market = plain(3000, quantity_pull=2.0, inventory_strength=1.0, visits_per_week=3.0)
    change, _ = _change(market)
    assert change[7:14, :5].sum() > 0
    assert change[14:, :5].sum() < 0
    without, _ = _change(plain(3000, quantity_pull=2.0, visits_per_week=3.0))
    assert without[14:].any() == np.False_


def test_flexible_consumption_keeps_more_of_the_bump() -> None:
    settings: dict[str, Any] = {
        "quantity_pull": 2.0, "inventory_strength": 1.0, "visits_per_week": 3.0
    }  # fmt: skip
    rigid, _ = _change(plain(3000, flexible_consumption=0.0, **settings))
    loose, _ = _change(plain(3000, flexible_consumption=2.0, **settings))
    assert loose[:, :5].sum() > rigid[:, :5].sum()


def test_a_promotion_lowers_the_later_willingness_by_the_reference_price() -> None:
    market = plain(3000, reference_strength=1.0, incidence_pull=1.0, visits_per_week=3.0)
    change, _ = _change(market)
    assert change[14:28, :5].sum() < 0
    averse, _ = _change(
        plain(3000, reference_strength=1.0, incidence_pull=1.0, visits_per_week=3.0,
              loss_aversion=3.0)
    )  # fmt: skip
    assert averse[14:28, :5].sum() < change[14:28, :5].sum()


def test_no_reference_effect_makes_its_memory_irrelevant() -> None:
    a = _units(plain(300, promotion_share=0.3, loss_aversion=0.0, reference_memory=0.1))
    b = _units(plain(300, promotion_share=0.3, loss_aversion=5.0, reference_memory=0.9))
    assert np.array_equal(a, b)


def test_the_calendar_moves_visits_as_it_says() -> None:
    market = plain(3000, weekday_strength=1.0, n_categories=1)
    visits = [calendar(market.config, day) for day in range(42)]
    chance = 1.0 - np.exp(-market.config.visits_per_week / 7.0 * np.exp(visits))
    orders = market.replay(market.user_ids()).totals.orders
    mean = 3000 * chance * orders.sum() / (3000 * chance.sum())
    assert np.abs(orders - mean).max() < 5 * np.sqrt(mean.max())
    assert np.corrcoef(orders, mean)[0, 1] > 0.9


@pytest.mark.parametrize("name", ["season_strength", "payday_strength"])
def test_season_and_payday_scale_with_their_strength(name: str) -> None:
    waves = [
        [calendar(plain(1, **{name: s}).config, day) for day in range(364)] for s in (0.0, 1.0, 2.0)
    ]
    assert not np.any(waves[0])
    assert np.ptp(waves[1]) > 0.9
    assert np.allclose(waves[2], 2 * np.array(waves[1]))


def test_recency_makes_visits_regular() -> None:
    def gap_variation(strength: float) -> float:
        market = plain(600, recency_strength=strength, visits_per_week=3.0, basket_lines=3.2)
        visits = market.replay(market.user_ids(), windows=(42,)).actual.visits[:, 0]
        return float(visits.var() / visits.mean())

    assert gap_variation(2.0) < 0.8 * gap_variation(0.0)


def test_felt_prices_have_floor_saturation_and_unseen_cents() -> None:
    config = MarketConfig(perception_floor=0.05, saturation=2.0, ending_strength=0.0)
    supply = supply_of(config)
    depth = np.array([0.0, 0.04, 0.2, 0.4])[:, None] * np.ones(config.n_items)
    felt = felt_log_price(config, supply, depth)
    assert not felt[:2].any()
    exact = np.rint(supply.list_cents * 0.8) / supply.list_cents
    goal = np.log1p(np.expm1(-2.0 * (1.0 - exact - 0.05)) / 2.0)
    assert felt[2] == pytest.approx(goal, rel=1e-4)
    assert (1 - np.exp(felt[3]) < 2 * (1 - np.exp(felt[2]))).all() or config.perception_floor
    linear = MarketConfig(perception_floor=0.0, saturation=0.0, ending_strength=0.0)
    assert felt_log_price(linear, supply, depth)[2] == pytest.approx(np.log(exact), rel=1e-4)
    unseen = MarketConfig(perception_floor=0.0, saturation=0.0, ending_strength=1.0)
    below, above = 1.0 - 199 / 250, 1.0 - 201 / 250
    one = supply._replace(list_cents=np.full(config.n_items, 250))
    jump = felt_log_price(unseen, one, np.full(config.n_items, below))
    assert (jump < felt_log_price(unseen, one, np.full(config.n_items, above)) - 0.3).all()


def test_households_differ_in_price_sensitivity_as_a_lognormal() -> None:
    market = plain(4000, sensitivity=2.0, sensitivity_spread=0.5)
    log_beta = np.log(households_of(market.config, market.user_ids()).beta.astype(np.float64))
    assert log_beta.mean() == pytest.approx(np.log(2.0), abs=0.04)
    assert log_beta.std() == pytest.approx(0.5, abs=0.03)
