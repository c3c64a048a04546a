from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_ray.artifacts.price_plan import PLAN
from promo_ray.config import parse
from promo_ray.errors import ConfigError, DataError
from promo_ray.pricing import ElasticityTable, PriceGuardrails, plan_prices


def table_of(elasticity, se=0.01, low=1e-3, high=1e6, n_weeks=30):
    n = len(elasticity)
    full = [np.broadcast_to(np.asarray(v, dtype=float), n) for v in (elasticity, se, low, high)]
    return ElasticityTable(
        tuple(f"i{i}" for i in range(n)),
        ("x",),
        np.zeros(n, dtype=np.int64),
        full[0],
        full[1],
        full[0],
        full[1],
        np.full(n, n_weeks),
        full[2],
        full[3],
        np.zeros(n, dtype=bool),
        np.array([-2.0]),
        np.array([0.5]),
    )


def catalog_of(price, cost, is_active=True):
    n = len(price)
    return pa.table(
        {
            "item_id": [f"i{i}" for i in range(n)],
            "category": ["x"] * n,
            "list_price": pa.array(price, pa.float64()),
            "unit_cost": pa.array(cost, pa.float64()),
            "is_active": [is_active] * n,
        }
    )


def row(elasticity=-3.0, price=10.0, cost=5.0, units=100.0, rails=None, **more):
    is_active = more.pop("is_active", True)
    plan = plan_prices(
        table_of([elasticity], **more),
        catalog_of([price], [cost], is_active),
        np.array([units]),
        rails,
    )
    assert plan.schema == PLAN
    return plan.to_pylist()[0]


ALL_CENTS = tuple(c / 100 for c in range(100))


def test_price_goes_to_the_optimum_of_the_curve_when_nothing_binds():
    rails = PriceGuardrails(max_move_rate=0.9, endings=ALL_CENTS, min_gain=0.0)
    found = row(rails=rails)
    assert found["new_price"] == pytest.approx(7.5, abs=0.011)  # cost * b / (1 + b)
    assert found["reason"] == "best on the demand curve"
    gain = 100 * ((0.75**-3) * 2.5 - 5.0)
    assert found["profit_change"] == pytest.approx(gain, rel=1e-3)


def test_largest_move_binds():
    found = row(rails=PriceGuardrails(endings=ALL_CENTS))
    assert (found["new_price"], found["reason"]) == (9.0, "largest move")


def test_inelastic_item_is_raised_to_the_largest_move_and_no_further():
    found = row(elasticity=-0.5, rails=PriceGuardrails(endings=ALL_CENTS))
    assert (found["new_price"], found["reason"]) == (11.0, "largest move")


def test_margin_floor_binds():
    found = row(cost=8.4, elasticity=-12.0, rails=PriceGuardrails(endings=ALL_CENTS))
    assert found["reason"] == "margin floor"
    assert found["new_price"] == pytest.approx(9.34)


def test_price_below_the_margin_floor_is_raised_even_at_a_loss():
    found = row(cost=9.5, elasticity=-12.0, rails=PriceGuardrails(endings=ALL_CENTS))
    assert found["reason"] == "margin floor"
    assert (found["new_price"] - 9.5) / found["new_price"] >= 0.1


def test_prices_never_seen_are_left_alone_unless_allowed():
    rails = PriceGuardrails(endings=ALL_CENTS)
    found = row(low=9.6, high=10.5, rails=rails)
    assert (found["new_price"], found["reason"]) == (9.6, "observed prices")
    free = PriceGuardrails(endings=ALL_CENTS, stays_in_observed_range=False)
    assert row(low=9.6, high=10.5, rails=free)["new_price"] == 9.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cost": None}, "unchanged: unit cost unknown"),
        ({"se": 3.0}, "unchanged: estimate too weak"),
        ({"se": np.inf}, "unchanged: estimate too weak"),
        ({"units": 0.0}, "unchanged: no sales"),
        ({"units": 0.001}, "unchanged: gain below the minimum"),
        ({"is_active": False}, "unchanged: not on sale"),
        ({"low": 10.0, "high": 10.0}, "unchanged: no price within the guardrails"),
    ],
)
def test_price_stays_with_the_reason(change, reason):
    found = row(**change)
    assert found["reason"] == reason
    assert (found["new_price"], found["profit_change"]) == (10.0, 0.0)


def test_assumed_margin_is_used_and_said():
    rails = PriceGuardrails(endings=ALL_CENTS, assumed_margin_rate=0.5)
    found = row(cost=None, rails=rails)
    assert found["new_price"] == 9.0
    assert found["reason"] == "largest move, unit cost assumed"
    assert found["unit_cost"] is None


def test_item_without_sales_shows_its_category():
    plan = plan_prices(table_of([-3.0]), catalog_of([10.0, 4.0], [5.0, 2.0]), np.array([100.0]))
    second = plan.to_pylist()[1]
    assert second["elasticity"] == -2.0
    assert second["n_weeks"] == 0
    assert second["reason"] == "unchanged: no sales"


@settings(max_examples=300, deadline=None)
@given(
    elasticity=st.floats(-12, -0.1),
    se=st.floats(0, 2),
    price=st.integers(20, 200_00).map(lambda c: c / 100),
    cost_share=st.floats(0, 1.2),
    units=st.floats(0.1, 1e4),
    span=st.tuples(st.floats(0.5, 1.0), st.floats(1.0, 1.5)),
    move=st.floats(0, 0.5),
    margin=st.floats(0, 0.5),
    endings=st.lists(st.integers(0, 99), min_size=1, max_size=4).map(
        lambda e: tuple(c / 100 for c in e)
    ),
)
def test_guardrails_hold_for_every_item(
    elasticity, se, price, cost_share, units, span, move, margin, endings
):
    rails = PriceGuardrails(max_move_rate=move, min_margin_rate=margin, endings=endings)
    low, high = price * span[0], price * span[1]
    cost = price * cost_share
    found = row(elasticity, price, cost, units, rails, se=se, low=low, high=high)
    new = found["new_price"]
    if found["reason"].startswith("unchanged"):
        assert new == price
        return
    assert abs(new - price) <= move * price + 1e-6
    assert new - cost >= margin * new - 1e-6
    assert low - 1e-6 <= new <= high + 1e-6
    assert round(100 * new) % 100 in {round(100 * e) for e in endings}
    if found["reason"] != "margin floor":
        assert found["profit_change"] >= rails.min_gain
        ratio = new / price
        for b in (elasticity - 1.2815 * se, elasticity + 1.2815 * se):
            assert ratio**b * (new - cost) - (price - cost) >= -1e-6 * price


def test_bad_settings_and_shapes_are_refused():
    with pytest.raises(ConfigError, match="endings"):
        parse(PriceGuardrails, {"endings": []})
    with pytest.raises(ConfigError, match="whole cents"):
        parse(PriceGuardrails, {"endings": [0.995]})
    with pytest.raises(DataError, match="weekly_units"):
        plan_prices(table_of([-2.0]), catalog_of([1.0], [0.5]), np.ones(2))
