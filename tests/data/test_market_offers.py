"""Offers, contacts, lags, returns and interference: every effect alone, and none at strength 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from market_cases import MESSAGE, QUARTER, TENTH, everybody, offers, plain

from promo_ray.data.market.events import purchases_of
from promo_ray.data.market.households import households_of
from promo_ray.data.market.shared import shared_by
from promo_ray.errors import DataError


def test_a_message_without_effects_changes_nothing() -> None:
    market = plain(300)
    ids = market.user_ids()
    told = market.replay(ids, offers(MESSAGE), everybody(market))
    left = market.replay(ids, offers(MESSAGE))
    assert all(np.array_equal(a, b) for a, b in zip(told.actual, left.actual, strict=True))


def test_deal_prone_users_take_a_subsidy_for_what_they_would_have_bought() -> None:
    market = plain(500, sensitivity=0.0)  # nobody responds, half of the users redeem
    ids, menu = market.user_ids(), offers(QUARTER)
    given, left = market.replay(ids, menu, everybody(market)), market.replay(ids, menu)
    assert np.array_equal(given.actual.orders, left.actual.orders)
    loss = left.actual.margin - given.actual.margin
    assert np.array_equal(loss, given.actual.discount)
    assert (loss[:, 1] > 0).mean() == pytest.approx(0.5, abs=0.08)
    spend = left.actual.revenue[:, 1] - given.actual.revenue[:, 1]
    assert np.array_equal(spend, given.actual.discount[:, 1])


def test_lift_brings_users_by_its_closed_form() -> None:
    # Before redemption the visit rate is that of a shop with exp(lift) times the rate.
    market = plain(4000, lift_strength=1.0, sensitivity=0.0, redeem_rate=0.999)
    amount = offers({"mechanic": "amount_off", "amount": 1000.0})
    first = market.replay(market.user_ids(), amount, everybody(market), windows=(1,)).actual
    homes = households_of(market.config, market.user_ids())
    lift = homes.lift.astype(np.float64).mean() * (1.0 - np.exp(-np.log(2.0) / 0.1))
    chance = 1.0 - np.exp(-market.config.visits_per_week / 7.0 * np.exp(lift))
    assert first.visits.mean() == pytest.approx(chance, abs=5 * np.sqrt(chance / 4000))


def test_an_offer_nears_its_end() -> None:
    settings: dict[str, Any] = {"lift_strength": 1.0, "sensitivity": 0.0, "visits_per_week": 0.2}
    rush = plain(4000, expiry_strength=4.0, **settings)
    calm = plain(4000, expiry_strength=0.0, **settings)
    menu, arm = offers(TENTH), everybody(rush)
    a, b = (m.replay(m.user_ids(), menu, arm).totals.orders for m in (rush, calm))
    assert a[:4].sum() == pytest.approx(b[:4].sum(), rel=0.02)
    assert a[13] > 1.2 * b[13]


def test_sleeping_dogs_alone_are_driven_away() -> None:
    market = plain(3000, dog_strength=2.0, dog_share=0.3, visits_per_week=3.0)
    ids, menu = market.user_ids(), offers(MESSAGE)
    told, left = market.replay(ids, menu, everybody(market)), market.replay(ids, menu)
    is_dog = households_of(market.config, ids).dog > 0
    change = (told.actual.visits - left.actual.visits)[:, 1]
    assert not change[~is_dog].any()
    assert change[is_dog].mean() < -1.0
    assert is_dog.mean() == pytest.approx(0.25, abs=0.08)
    none = plain(300, dog_share=0.0, dog_strength=2.0)
    assert not households_of(none.config, none.user_ids()).dog.any()


def test_fatigue_comes_with_the_second_contact() -> None:
    market = plain(3000, fatigue_strength=0.5)
    ids, menu, arm = market.user_ids(), offers(MESSAGE), everybody(market)
    visits = [
        market.replay(ids, menu, arm, contact_days=days).actual.visits[:, 1].sum()
        for days in ((0,), (0, 7), (0, 7, 14))
    ]
    left = market.replay(ids, menu).actual.visits[:, 1].sum()
    assert visits[0] == left
    assert visits[0] > visits[1] > visits[2]


def test_baskets_bunch_just_above_a_threshold() -> None:
    def spend(pull_rate: float) -> np.ndarray[Any, Any]:
        market = plain(4000, pull_rate=pull_rate, n_categories=8, basket_lines=4.0,
                       trip_spread=1.0, redeem_rate=0.99)  # fmt: skip
        menu = offers({"mechanic": "spend_threshold", "amount": 1.0, "threshold": 20.0})
        rows = purchases_of(market.world(menu), market.user_ids(), everybody(market), None)
        gross = rows["paid"] + np.where(rows["offer"] > 0, rows["discount"], 0.0)
        trip = rows["user"] * 1000 + rows["day"]
        _, order = np.unique(trip, return_inverse=True)
        return np.bincount(order, gross)

    def counts(x: np.ndarray[Any, Any]) -> tuple[int, int]:
        return int(((x > 15) & (x < 19.99)).sum()), int(((x >= 20) & (x < 23)).sum())

    (below_0, above_0), (below_1, above_1) = counts(spend(0.0)), counts(spend(1.0))
    assert above_1 > 1.3 * above_0
    assert below_1 < below_0


def test_booking_lags_are_censored_at_the_end_of_the_window() -> None:
    scale = 5.0
    market = plain(4000, lag_days=scale, visits_per_week=5.0)
    found = market.replay(market.user_ids(), windows=(7, 42))
    late = 7 - np.arange(7)  # days left until the end of the window
    seen = (1.0 - np.exp(-late / scale)).mean()
    share = found.observed.orders[:, 0].sum() / found.actual.orders[:, 0].sum()
    assert share == pytest.approx(seen, abs=0.01)
    now = plain(300)
    result = now.replay(now.user_ids())
    assert np.array_equal(result.observed.margin, result.actual.margin)


def test_a_weibull_lag_has_its_survival_function() -> None:
    market = plain(4000, lag_days=10.0, lag_shape=2.0, visits_per_week=5.0)
    found = market.replay(market.user_ids(), windows=(7,))
    seen = (1.0 - np.exp(-(((7 - np.arange(7)) / 10.0) ** 2))).mean()
    share = found.observed.orders.sum() / found.actual.orders.sum()
    assert share == pytest.approx(seen, abs=0.01)


def test_returns_are_taken_off_and_seen_only_when_they_came() -> None:
    market = plain(3000, return_rate=0.3, return_days=10.0, visits_per_week=3.0)
    kept = plain(3000, visits_per_week=3.0)
    ids = market.user_ids()
    back, full = market.replay(ids, windows=(7,)), kept.replay(ids, windows=(7,))
    revenue = full.actual.revenue.sum()
    assert back.actual.revenue.sum() / revenue == pytest.approx(0.7, abs=0.01)
    assert np.array_equal(back.actual.orders, full.actual.orders)
    came = (1.0 - np.exp(-(6 - np.arange(7)) / 10.0)).mean()  # one day at least
    assert back.observed.revenue.sum() / revenue == pytest.approx(1.0 - 0.3 * came, abs=0.01)


def test_only_referrals_let_one_users_offer_reach_another() -> None:
    half = np.arange(2000) % 2
    for strength, spills in ((0.0, False), (1.0, True)):
        market = plain(2000, referral_strength=strength)
        ids, menu = market.user_ids(), offers(MESSAGE)
        told, left = market.replay(ids, menu, half), market.replay(ids, menu)
        change = (told.actual.orders - left.actual.orders)[half == 0, 1]
        assert (change.sum() > 0) == spills
        assert change.any() == spills


def test_a_shared_stock_makes_controls_pay_for_the_treated() -> None:
    half = np.arange(1500) % 2
    for tightness, spills in ((0.0, False), (1.0, True)):
        market = plain(1500, quantity_pull=3.0, redeem_rate=0.99, incidence_pull=1.0,
                       stock_tightness=tightness)  # fmt: skip
        ids, menu = market.user_ids(), offers({**QUARTER, "depth_rate": 0.6})
        told, left = market.replay(ids, menu, half), market.replay(ids, menu)
        change = (told.actual.revenue - left.actual.revenue)[half == 0, 1]
        assert change.any() == spills
        if spills:
            assert change.sum() < 0
            by_day = told.totals.units
            sold_before = by_day.cumsum(axis=0) - by_day
            assert not by_day[sold_before >= shared_by(market.config, 1500).units].any()


def test_a_shared_budget_ends_the_offers_of_all() -> None:
    half = np.arange(1500) % 2
    spent = {}
    for budget in (0.0, 1.0):
        market = plain(1500, redeem_rate=0.99, discount_budget=budget)
        ids, menu = market.user_ids(), offers(QUARTER)
        alone, all_of_them = market.replay(ids, menu, half), market.replay(ids, menu, half * 0 + 1)
        by_day = all_of_them.totals.discount
        before = by_day.cumsum() - by_day
        spent[budget] = [r.actual.discount[half == 1, 1].sum() for r in (alone, all_of_them)]
        is_over = before >= 150_000 if budget else np.zeros(len(by_day), bool)
        assert is_over.any() == bool(budget)
        assert not by_day[is_over].any()
        assert by_day[~is_over].any()
    assert spent[0.0][0] == spent[0.0][1]
    assert spent[1.0][0] > spent[1.0][1]


def test_bundles_ask_for_both_items_and_amounts_stop_at_the_basket() -> None:
    market = plain(500, redeem_rate=0.99)
    ids = market.user_ids()
    items = market.catalog()["item_id"].to_pylist()
    bundle = offers(
        {"mechanic": "product_bundle", "depth_rate": 0.5, "item_ids": [items[0], items[5]]}
    )
    rows = purchases_of(market.world(bundle), ids, everybody(market), None)
    used = rows["offer"] > 0
    trips = (rows["user"] * 1000 + rows["day"])[used]
    assert used.any()
    assert set(rows["item"][used]) == {0, 5}
    assert (np.unique(trips, return_counts=True)[1] == 2).all()
    amount = offers({"mechanic": "amount_off", "amount": 1000.0})
    free = purchases_of(market.world(amount), ids, everybody(market), None)
    assert (np.abs(free["paid"][free["offer"] > 0]) < 0.005).all()


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"mechanic": "lottery"}, "mechanic must be one of"),
        ({"mechanic": "percent_off", "depth_rate": 1.5}, "depth_rate of a percent_off"),
        ({"mechanic": "percent_off", "depth_rate": 0.1, "scope": "Moon"}, "scope must be"),
        ({"mechanic": "percent_off", "depth_rate": 0.1, "item_ids": ["x"]}, "item_ids must be"),
        ({"mechanic": "amount_off"}, "amount of a amount_off"),
    ],
)
def test_offers_that_the_market_cannot_make_are_refused(row: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        plain(5).world(offers(row))
