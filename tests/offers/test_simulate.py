"""Replay of logged carts, by figures worked out by hand, by brute force, and on real data."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from promo_ray.data.adapters.complete_journey import CompleteJourney
from promo_ray.errors import DataError
from promo_ray.offers import (
    BuyGet,
    Caps,
    Cart,
    CartBatch,
    CartLine,
    Context,
    Gift,
    Offer,
    PercentOff,
    Reason,
    Scope,
    Slot,
    Tier,
    Tiered,
    Trigger,
    carts_of_events,
    simulate_offers,
)

DATA = Path(os.environ.get("PROMO_RAY_DATA", Path(__file__).parents[3] / "shared" / "data"))
ANYONE = Context(now=datetime(2026, 1, 5, tzinfo=UTC))


def offer(offer_id: str, mechanic: Any, **parts: Any) -> Offer:
    return Offer(id=offer_id, currency="USD", mechanic=mechanic, **parts)


def logged(*carts: tuple[str, int, int]) -> CartBatch:
    """Carts of one line: instant, price, quantity."""
    return CartBatch.of(
        [
            Cart(currency="USD", lines=(CartLine(item_id=f"p{p}", list_price=p, quantity=q),))
            for _, p, q in carts
        ],
        at=[np.datetime64(at) for at, _, _ in carts],
    )


LOG = logged(  # not in the order of time
    ("2026-01-07T10", 1000, 2),
    ("2026-01-05T09", 400, 1),
    ("2026-01-05T08", 950, 1),
    ("2026-01-07T09", 90, 1),
)


def test_cost_carts_quantiles_units_and_days_by_hand() -> None:
    out = simulate_offers([offer("ten", PercentOff(bp=1000))], LOG)
    (ten,) = out.offers
    assert (out.n_carts, out.cost, out.cart_rate) == (4, 95 + 40 + 9 + 200, 1.0)
    assert ten.saving_quantiles == (9, 9, 40, 95, 200, 200)
    assert ten.full_price_units == 5
    assert out.days.astype(str).tolist() == ["2026-01-05", "2026-01-06", "2026-01-07"]
    assert out.burn.tolist() == [[135], [0], [209]]
    half = 1.959964 * np.sqrt([95**2 + 40**2, 0, 9**2 + 200**2])
    np.testing.assert_allclose(out.burn_high[:, 0] - out.burn[:, 0], half, rtol=1e-6)
    np.testing.assert_allclose(out.burn_low[:, 0], np.maximum(0, out.burn[:, 0] - half), rtol=1e-6)
    mean, low, high = out.day_mean[0]
    assert mean == pytest.approx(344 / 3)
    assert high - mean == pytest.approx(mean - low)
    assert high - mean == pytest.approx(1.959964 * np.std([135, 0, 209], ddof=1) / 3**0.5)


def test_budgets_are_spent_in_the_order_of_time() -> None:
    offers = [
        offer("ten", PercentOff(bp=1000), caps=Caps(budget=100)),
        offer("day", PercentOff(bp=100), caps=Caps(uses=1, period="day")),
        offer("mug", Gift(sku="mug", unit_cost=30), caps=Caps(budget=70)),
        offer("rich", PercentOff(bp=1), caps=Caps(budget=10**9)),
    ]
    ten, day, mug, rich = simulate_offers(offers, LOG, ANYONE).offers
    assert (ten.cost, ten.n_carts) == (100, 2)
    assert ten.exhausted_at == datetime(2026, 1, 5, 9, tzinfo=UTC)
    assert ten.reasons == {Reason.BUDGET_SPENT: 2}
    assert (day.n_carts, day.exhausted_at) == (2, datetime(2026, 1, 5, 9, tzinfo=UTC))
    assert (mug.cost, mug.n_carts) == (60, 2)
    assert mug.exhausted_at == datetime(2026, 1, 7, 9, tzinfo=UTC)
    assert rich.exhausted_at is None


def test_thresholds_count_the_carts_just_below() -> None:
    tiers = (Tier(min=1000, amount=100), Tier(min=2001, amount=300))
    offers = [
        offer("tiers", Tiered(tiers=tiers)),
        offer("units", PercentOff(bp=100), trigger=Trigger(min_units=2)),
        offer(
            "part",
            PercentOff(bp=100),
            trigger=Trigger(min_spend=100, required_scope=Scope.of(products=("p90",))),
        ),
    ]
    found = simulate_offers(offers, LOG, ANYONE).thresholds
    assert [(t.offer_id, t.kind, t.least) for t in found] == [
        ("tiers", "spend", 1000),
        ("tiers", "spend", 2001),
        ("units", "quantity", 2),
        ("part", "spend", 100),
    ]
    low, high, units, part = found
    # of 1000 the carts of 950, 400 and 90 lack 5 %, 60 % and 91 %
    assert (low.n_reached, low.counts, low.n_just_below) == (1, (0, 1, 0, 0, 0, 2), 1)
    assert (high.n_reached, high.counts, high.n_just_below) == (0, (1, 0, 0, 0, 0, 3), 1)
    assert (units.n_reached, units.counts, units.n_just_below) == (1, (0, 0, 0, 0, 3, 0), 0)
    # who has nothing of the kind is not below, but away
    assert (part.n_reached, part.counts, part.n_just_below) == (0, (0, 0, 1, 0, 0, 0), 1)


def test_intervals_hold_what_another_day_brings() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        n = rng.poisson(60)
        prices = rng.choice([100, 300, 2000], n, p=[0.6, 0.3, 0.1])
        days = logged(*(("2026-01-05", int(p), 1) for p in prices))
        out = simulate_offers([offer("ten", PercentOff(bp=1000))], days, ANYONE, level=0.9)
        truth = 60 * (0.6 * 10 + 0.3 * 30 + 0.1 * 200)
        hits += out.burn_low[0, 0] <= truth <= out.burn_high[0, 0]
    assert 165 <= hits <= 195  # 180 expected, standard deviation 4.2


def test_nothing_applies_and_bad_input() -> None:
    out = simulate_offers([offer("none", BuyGet(buy=Slot(quantity=9)))], LOG, ANYONE)
    assert (out.cost, out.saving_quantiles, out.offers[0].saving_quantiles) == (0, (), ())
    one_day = simulate_offers([offer("o", PercentOff(bp=1))], LOG.take(np.array([1, 2])), ANYONE)
    assert np.isnan(one_day.day_mean[0, 1:]).all()
    timeless = CartBatch.of([LOG.cart(0)])
    for carts, level, words in ((timeless, 0.9, "carts.at"), (LOG, 1.0, "level")):
        with pytest.raises(DataError, match=words):
            simulate_offers([], carts, ANYONE, level=level)


def events(*rows: tuple[str, str, str, int, float, float | None, str | None, str]) -> pa.Table:
    names = ("user_id", "item_id", "at", "quantity", "unit_price", "discount", "order_id", "type")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    return pa.table(
        {
            "user_id": pa.array(columns["user_id"], pa.string()),
            "item_id": pa.array(columns["item_id"], pa.string()),
            "event_type": pa.array(columns["type"], pa.string()),
            "at": pa.array(
                [datetime.fromisoformat(a) for a in columns["at"]], pa.timestamp("us", "UTC")
            ),
            "quantity": pa.array(columns["quantity"], pa.int32()),
            "unit_price": pa.array(columns["unit_price"], pa.float64()),
            "discount": pa.array(columns["discount"], pa.float64()),
            "order_id": pa.array(columns["order_id"], pa.string()),
        }
    )


def test_carts_of_events_by_order_or_by_instant() -> None:
    table = events(
        ("u2", "b", "2026-01-06T10", 2, 1.0, 0.5, "B", "purchase"),
        ("u1", "a", "2026-01-05T10", 1, 2.345, None, None, "purchase"),
        ("u1", "c", "2026-01-05T10", 3, 0.1, 0.0, None, "purchase"),
        ("u1", "a", "2026-01-05T11", 1, 2.5, None, None, "purchase"),
        ("u2", "a", "2026-01-06T11", 1, 2.5, None, "B", "purchase"),
        ("u2", "a", "2026-01-06T11", 1, 2.5, None, "B", "view"),
        ("u2", "a", "2026-01-06T11", 0, 2.5, None, "B", "purchase"),
        ("u3", "a", "2026-01-04T11", 1, 2.5, None, "B", "purchase"),
    )
    catalog = pa.table(
        {"item_id": ["b", "a", "z"], "category": ["x > y", "x", "q"], "unit_cost": [0.7, None, 1.0]}
    )
    batch = carts_of_events(table, catalog)
    assert batch.at is not None
    assert batch.user is not None
    found = [
        (
            str(batch.at[i])[:13],
            batch.users[batch.user[i]],
            [(x.item_id, x.list_price, x.quantity, x.is_on_sale) for x in batch.cart(i).lines],
        )
        for i in range(len(batch))
    ]
    assert found == [
        ("2026-01-04T11", "u3", [("a", 250, 1, False)]),
        ("2026-01-05T10", "u1", [("a", 235, 1, False), ("c", 10, 3, False)]),
        ("2026-01-05T11", "u1", [("a", 250, 1, False)]),
        ("2026-01-06T10", "u2", [("b", 125, 2, True), ("a", 250, 1, False)]),
    ]
    tea = batch.cart(3).lines[0]
    assert (tea.category, tea.unit_cost) == ("x > y", 70)
    assert batch.cart(0).lines[0].unit_cost is None
    assert carts_of_events(table, currency="JPY").list_price.tolist() == [3, 2, 0, 3, 1, 3]
    empty = carts_of_events(table.slice(0, 0), catalog)
    assert (len(empty), len(empty.items)) == (0, 0)
    with pytest.raises(DataError, match="quantity"):
        carts_of_events(table.drop_columns(["quantity"]))


@pytest.mark.skipif(not (DATA / "complete_journey").is_dir(), reason="no complete_journey data")
def test_replay_of_real_baskets() -> None:
    data = CompleteJourney().read(str(DATA / "complete_journey"))
    batch = carts_of_events(data.events, data.catalog)
    goods = int((batch.list_price * batch.quantity).sum())
    assert len(batch) == len(set(data.events["order_id"].to_pylist()))
    paid = np.dot(data.events["unit_price"].to_numpy(), data.events["quantity"].to_numpy())
    off = np.nansum(data.events["discount"].to_numpy())
    assert goods == pytest.approx(100 * (paid + off), rel=1e-3)
    offers = [
        offer("half", PercentOff(bp=5000)),
        offer("fixed", PercentOff(bp=2000), caps=Caps(budget=123_456)),
    ]
    out = simulate_offers(offers[:1], batch, ANYONE)
    n_odd = int((batch.list_price * batch.quantity % 2).sum())
    assert goods - n_odd <= 2 * out.cost <= goods
    assert out.burn.sum() == out.cost
    assert out.offers[0].full_price_units <= batch.quantity[~batch.is_on_sale].sum()
    assert simulate_offers(offers, batch, ANYONE).offers[1].cost == 123_456
