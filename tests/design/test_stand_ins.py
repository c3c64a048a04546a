from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.design import Constraints, MenuSpace, MenuUsers, offer_grid
from promo_ray.design.plans import LifecyclePlan, holdout_of, plan_grid, plan_menu, plans_of
from promo_ray.design.stand_ins import (
    GiftOffer,
    ShippingOffer,
    StandInSurface,
    Step,
    TieredOffer,
    free_shipping,
    gift,
    tiered,
)
from promo_ray.errors import ConfigError
from promo_ray.offers import Cart, CartLine, Context, Shipping, check_offers, price_cart
from promo_ray.response.model import EffectEstimate
from promo_ray.response.surface import SurfaceEffects

BASKET = np.array([20.0, 55.0, 80.0, 150.0])
X = BASKET[:, None]


class Plain:
    """Gross = 3 sqrt(off) where the threshold is reached, discount = half of what is off."""

    def __init__(self, is_gross: bool = True) -> None:
        self.is_gross = is_gross

    def effects(self, x: Any, basket: Any, offers: pa.Table) -> SurfaceEffects | EffectEstimate:
        rows = offers.to_pylist()
        assert {r["mechanic"] for r in rows} <= {"amount_off", "spend_threshold"}
        off = np.array([r["amount"] for r in rows])
        reached = basket[:, None] >= np.array([r["threshold"] or 0.0 for r in rows])
        gross, given = 3 * np.sqrt(off) * reached, 0.5 * off * reached
        return (
            SurfaceEffects(gross, given) if self.is_gross else EffectEstimate(gross - given, given)
        )


def _terms(*rows: Any) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=OFFER_TERMS)


@pytest.mark.parametrize("is_gross", [True, False])
def test_each_mechanic_is_predicted_by_its_stand_ins(is_gross: bool) -> None:
    shipping = free_shipping(ShippingOffer(fee=4.0, threshold=50.0), "USD")
    mug = gift(GiftOffer(sku="mug", unit_cost=2.0, perceived_value=9.0), "USD")
    steps = (Step(threshold=50, amount=4), Step(threshold=100, amount=16))
    both = tiered(TieredOffer(steps=steps), "USD")
    known = {s.offer.id: s for s in (shipping, mug, both)}
    plain = {**dict.fromkeys(OFFER_TERMS.names), "offer_id": "a", "mechanic": "amount_off"}
    plain |= {"amount": 1.0, "contact_cost": 0.0, "label": ""}
    surface = StandInSurface(Plain(is_gross), known)
    found = surface.effects(X, BASKET, _terms(shipping.row, mug.row, both.row, plain))
    gross = found[0] if is_gross else found[0] + found.discount
    assert gross[:, 0].tolist() == [0.0, 6.0, 6.0, 6.0]
    assert found.discount[:, 0].tolist() == [0.0, 2.0, 2.0, 2.0]
    assert gross[:, 1] == pytest.approx(9.0)  # moved by 9
    assert found.discount[:, 1] == pytest.approx(0.5 * 2.0)  # paid at 2
    assert gross[:, 2].tolist() == [0.0, 6.0, 6.0, 12.0]
    assert found.discount[:, 2].tolist() == [0.0, 2.0, 2.0, 8.0]
    assert gross[:, 3].tolist() == [3.0] * 4
    assert found.discount[:, 3].tolist() == [0.5] * 4


def test_an_outcome_that_is_no_money_is_not_touched_by_costs() -> None:
    mug = gift(GiftOffer(sku="mug", unit_cost=2.0, perceived_value=9.0), "USD")
    surface = StandInSurface(Plain(is_gross=False), {mug.offer.id: mug}, is_net=False)
    found = surface.effects(X, BASKET, _terms(mug.row))
    assert found[0] == pytest.approx(9.0 - 4.5)  # what the inner surface says, as it is


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"mechanics": ["fixed_price"]}, "whose effect can be predicted; got 'fixed_price'"),
        ({"mechanics": ["buy_get"]}, "whose effect can be predicted; got 'buy_get'"),
        ({"mechanics": ["gift"]}, "gifts must list its offers"),
        ({"gifts": [{"sku": "a", "unit_cost": 1, "perceived_value": 2}]}, "gifts must list"),
        ({"mechanics": ["free_shipping"], "shipping": [{"fee": 0}]}, r"shipping\.0\.fee"),
        ({"mechanics": ["tiered"], "tiers": [{"steps": [{"threshold": 5, "amount": 1}]}]}, "steps"),
        (
            {"mechanics": ["tiered"],
             "tiers": [{"steps": [{"threshold": 9, "amount": 2}, {"threshold": 5, "amount": 3}]}]},
            "steps must rise",
        ),
        ({"max_uses": 0}, "max_uses"),
        ({"metric": "orders"}, "metric"),
        ({"audience": [{"column": "protected_group", "is_in": ["a"]}]}, "protected_"),
        ({"audience": [{"column": "frequency"}]}, "must have at_least"),
    ],
)  # fmt: skip
def test_what_cannot_be_predicted_or_told_is_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        plans_of({"welcome": changes})


STEPS = [{"threshold": 50, "amount": 4}, {"threshold": 100, "amount": 16}]
PLAN = plans_of(
    {
        "own": {
            "goal": "x",
            "metric": "margin",
            "goal_days": 28,
            "max_offers": 3,
            "max_uses": 1,
            "mechanics": ["amount_off", "free_shipping", "gift", "tiered"],
            "shipping": [{"fee": 4.0, "threshold": 50}],
            "gifts": [{"sku": "mug", "unit_cost": 0.5, "perceived_value": 9, "threshold": 40}],
            "tiers": [
                {"steps": [{"threshold": 50, "amount": 4}, {"threshold": 100, "amount": 16}]}
            ],
        }
    }
)["own"]


def _planned(plan: LifecyclePlan = PLAN, surface: Any = None, **rules: Any) -> Any:
    row = {**dict.fromkeys(OFFER_TERMS.names), "offer_id": "a", "mechanic": "amount_off"}
    grid = offer_grid(_terms(row | {"amount": 1.0, "contact_cost": 0.0, "label": ""}))
    basket = np.random.default_rng(0).lognormal(4.0, 0.5, 400)
    users = MenuUsers(basket[:, None], basket)
    space = MenuSpace(grid, 3, constraints=Constraints(**rules))
    profiles = pa.table({"k": np.zeros(400)})
    return plan_menu("own", plan, surface or Plain(), users, profiles, space, 500.0, outcome_sd=9.0)


def test_a_plan_holds_them_as_shops_execute_them_and_says_that_none_was_tried() -> None:
    found = _planned(min_margin_rate=0.1, margin_rate=0.5, typical_basket=50.0)
    offers = found.executable("USD")
    check_offers(offers)
    assert {o.mechanic.method: o.caps.min_margin_bp for o in offers}["gift"] == 1_000
    assert all(o.id.startswith("own-") and o.caps.uses_per_user == 1 for o in offers)
    is_tried = {o.terms["mechanic"]: o.is_tried or o.is_between for o in found.menu.offers}
    assert not any(tried for name, tried in is_tried.items() if name != "amount_off")
    document = found.document()
    assert any("discount" in text for text in document["guardrails"]["enforced"])
    shipping = replace(PLAN, mechanics=("free_shipping",), gifts=(), tiers=())
    floor = {"min_margin_rate": 0.1, "margin_rate": 0.5, "typical_basket": 50.0}
    (offer,) = _planned(shipping, **floor).executable("USD")
    assert offer.caps.min_margin_bp is None  # shipping has no margin
    only = _planned(support="tried")
    assert {o.terms["mechanic"] for o in only.menu.offers} <= {"amount_off"}


def test_several_surfaces_predict_them_as_one_does() -> None:
    one, two = _planned(), _planned(surface=[Plain(), Plain()])
    assert one.menu.offer_ids == two.menu.offer_ids
    assert one.menu.judged.value == two.menu.judged.value


def test_the_depth_of_steps_is_that_of_the_deepest() -> None:
    steps = replace(PLAN, mechanics=("tiered",), shipping=(), gifts=())
    (offer,) = _planned(steps).executable("USD")
    assert [(t.min, t.amount) for t in offer.mechanic.tiers] == [(5_000, 400), (10_000, 1_600)]
    with pytest.raises(ConfigError, match="the grid and the shop"):
        _planned(steps, mechanics=("amount_off",))
    assert not _planned(replace(steps, max_depth_rate=0.15)).menu.offers


def _priced(price: int, **facts: Any) -> Any:
    offers = [o for o in _planned(typical_basket=50.0).executable() if o.mechanic.method == "gift"]
    offers.append(free_shipping(ShippingOffer(fee=4.0, threshold=50.0), "USD").offer)
    line = CartLine(item_id="a", list_price=price)
    cart = Cart(currency="USD", lines=(line,), shipping=Shipping(price=400, method="post"))
    context = Context(now=datetime(2026, 1, 5, tzinfo=UTC), gift_stock={"mug": 5}, **facts)
    return price_cart(cart, offers, context)


def test_they_price_as_they_say_and_only_for_users_of_the_plan() -> None:
    user = next(u for u in "abc" if not holdout_of("own", PLAN).holds_out(u, ""))
    listed = {"lists": frozenset({"plan own: own-gift-mug-40"}), "user_id": user}
    for price, has_shipping, has_gift in (
        (3_000, False, False),
        (4_500, False, True),
        (6_000, True, True),
    ):
        found = _priced(price, **listed)
        assert {a.offer_id for a in found.applied} == {
            *(["free_shipping-50"] if has_shipping else []),
            *(["own-gift-mug-40"] if has_gift else []),
        }
    assert "own-gift-mug-40" not in {a.offer_id for a in _priced(6_000, user_id=user).applied}


class Capped:
    """No order gives more than itself off, and 0.6 of them redeem."""

    def effects(self, x: Any, basket: Any, offers: pa.Table) -> SurfaceEffects:
        row = offers.to_pylist()[0]
        off = np.full(len(basket), row["amount"])
        if row["threshold"] is None:
            off = np.minimum(off, basket)
        return SurfaceEffects(off[:, None], 0.6 * off[:, None])


@pytest.mark.parametrize(("perceived", "threshold"), [(10, None), (400, None), (400, 500)])
def test_a_gift_costs_as_much_however_large_it_looks(perceived: float, threshold: Any) -> None:
    tv = gift(
        GiftOffer(sku="tv", unit_cost=10, perceived_value=perceived, threshold=threshold), "USD"
    )
    found = StandInSurface(Capped(), {tv.offer.id: tv}).effects(X, BASKET, _terms(tv.row))
    assert found.discount[:, 0] == pytest.approx(6.0)


def test_a_gift_worth_more_than_the_order_it_comes_with_is_refused() -> None:
    mug = {"sku": "mug", "unit_cost": 10, "perceived_value": 41, "threshold": 40}
    with pytest.raises(ConfigError, match="at most the threshold"):
        plans_of({"welcome": {"mechanics": ["gift"], "gifts": [mug]}})
    own = GiftOffer(sku="tv", unit_cost=10, perceived_value=400)
    with pytest.raises(ConfigError, match=r"plans\.own\.gifts: .* got 400 of 'tv'"):
        _planned(replace(PLAN, gifts=(own,)), typical_basket=50.0)


def test_offers_that_differ_have_ids_and_words_of_their_own() -> None:
    own = {
        "mechanics": ["free_shipping", "gift"],
        "shipping": [{"fee": 4.9}, {"fee": 9.9}]
        + [{"fee": 4.9, "threshold": t} for t in (1_000_000, 1_000_001)],
        "gifts": [{"sku": "a", "unit_cost": c, "perceived_value": 9} for c in (1, 2)],
    }
    row = {**dict.fromkeys(OFFER_TERMS.names), "offer_id": "gift-a", "mechanic": "percent_off"}
    grid = offer_grid(_terms(row | {"depth_rate": 0.1, "contact_cost": 0.0, "label": ""}))
    found, stand_ins = plan_grid(plans_of({"welcome": own})["welcome"], grid, "IDR")
    assert found.offer_ids == (
        *("free_shipping", "free_shipping-2"),
        *("free_shipping-1000000", "free_shipping-1000001", "gift-a-2", "gift-a-3"),
    )
    assert [stand_ins[i].effect_rows[0]["amount"] for i in found.offer_ids[:2]] == [4.9, 9.9]
    assert found.terms["label"].to_pylist()[3].endswith("from 1000001.00 IDR on")
    assert tuple(o.id for o in found.offers("IDR")) == found.offer_ids
