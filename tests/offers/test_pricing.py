from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from small_carts import NOW, line, offer, pays, price, reasons, savings

from promo_ray.errors import DataError
from promo_ray.offers import (
    AmountOff,
    Audience,
    BuyGet,
    Caps,
    CapsLeft,
    Cart,
    CartLine,
    Context,
    FixedPrice,
    FreeShipping,
    Gift,
    Message,
    Offer,
    PercentOff,
    ProductBundle,
    Scope,
    Selection,
    Shipping,
    Slot,
    Stacking,
    Tier,
    Tiered,
    Trigger,
    Window,
    price_cart,
)

TEA = line("tea", 10_00)

# Mechanics.


def test_percent_off_stops_at_its_largest_amount() -> None:
    assert price([line("a", 100_00)], offer("p", PercentOff(bp=5000, max_amount=7_00))).totals == (
        100_00,
        7_00,
        0,
        0,
        93_00,
        0,
    )


def test_amount_per_unit_stops_at_each_price() -> None:
    priced = price(
        [line("a", 50, 2), line("b", 3_00, 2)], offer("u", AmountOff(amount=1_00, per="unit"))
    )
    assert pays(priced) == [0, 4_00]


@pytest.mark.parametrize(("base", "pay"), [("running", 8_00), ("initial", 7_00)])
def test_fixed_price_is_never_a_rise(base: str, pay: int) -> None:
    # on the initial price both offers give what they promise: 1.00 and 2.00
    priced = price(
        [line("a", 10_00), line("b", 7_50)],
        offer(
            "a",
            AmountOff(amount=1_00),
            scope=Scope.of(products=("a",)),
            stacking=Stacking(layer="item"),
        ),
        offer("f", FixedPrice(price=8_00), stacking=Stacking(base=base)),
    )
    assert pays(priced) == [pay, 7_50]


TIERS = (Tier(min=50_00, amount=5_00), Tier(min=100_00, amount=15_00))


@pytest.mark.parametrize(
    ("spend", "highest", "cumulative"),
    [(49_99, 0, 0), (50_00, 5_00, 5_00), (100_00, 15_00, 20_00), (900_00, 15_00, 20_00)],
)
def test_tiers_pay_the_highest_or_all_that_are_reached(
    spend: int, highest: int, cumulative: int
) -> None:
    for is_sum, saving in ((False, highest), (True, cumulative)):
        priced = price([line("a", spend)], offer("t", Tiered(tiers=TIERS, cumulative=is_sum)))
        assert priced.totals.saving == saving
        assert reasons(priced) == ({} if saving else {"t": "below_threshold"})


@pytest.mark.parametrize(
    ("spend", "saving"), [(99_99, 0), (100_00, 10_00), (199_99, 10_00), (350_00, 30_00)]
)
def test_a_tier_may_repeat(spend: int, saving: int) -> None:
    every_100 = Tiered(tiers=(Tier(min=100_00, amount=10_00),), repeat_every=100_00)
    assert price([line("a", spend)], offer("t", every_100)).totals.saving == saving


@pytest.mark.parametrize(("quantity", "saving"), [(1, 0), (2, 2_00), (3, 6_00), (4, 8_00)])
def test_tiers_may_count_units(quantity: int, saving: int) -> None:
    tiers = (Tier(min=2, bp=1000), Tier(min=3, bp=2000))
    bought = offer("t", Tiered(tiers=tiers, basis="quantity"))
    assert price([line("a", 10_00, quantity)], bought).totals.saving == saving


@pytest.mark.parametrize(("basis", "saving"), [("list", 15_00), ("after_item", 10_00)])
def test_thresholds_count_spend_on_their_basis(basis: str, saving: int) -> None:
    tiered = Tiered(tiers=(Tier(min=100_00, amount=5_00),))
    offers = [
        offer("p", PercentOff(bp=1000)),
        offer("t", tiered, trigger=Trigger(spend_basis=basis)),
    ]
    assert price([line("a", 100_00)], *offers).totals.saving == saving


def test_order_offers_do_not_move_the_spend_of_later_thresholds() -> None:
    tiered = Tiered(tiers=(Tier(min=100_00, amount=5_00),))
    offers = [offer("a", AmountOff(amount=30_00)), offer("t", tiered)]
    assert savings(price([line("a", 100_00)], *offers)) == {"a": 30_00, "t": 5_00}


def test_thresholds_look_at_their_scope() -> None:
    tea = Scope.of(products=("tea",))
    tiered = Tiered(tiers=(Tier(min=10_00, bp=1000),))
    priced = price([TEA, line("tv", 500_00)], offer("t", tiered, scope=tea))
    assert pays(priced) == [9_00, 500_00]


def test_bundle_takes_whole_sets_and_the_dearest_units_first() -> None:
    bundle = ProductBundle.of_items("a", "b", "b", price=10_00)
    lines = [line("a", 8_00), line("a", 6_00, 3), line("b", 4_00, 5)]
    # two sets: a at 8 and 6, four b: 30.00 for 20.00
    assert price(lines, offer("x", bundle)).totals.saving == 10_00
    missing = price([line("a", 8_00, 9), line("b", 4_00)], offer("x", bundle))
    assert reasons(missing) == {"x": "bundle_incomplete"}


def test_bundle_at_a_price_is_made_only_as_often_as_it_saves() -> None:
    bundle = ProductBundle.of_items("a", "b", price=10_00)
    lines = [line("a", 8_00), line("a", 5_00), line("b", 4_00, 2)]
    # 12.00 for 10.00; the second set would cost 9.00 alone
    assert price(lines, offer("x", bundle)).totals.saving == 2_00


def test_bundle_slots_may_overlap() -> None:
    any_food = Slot(scope=Scope.of(categories=("food",)))
    the_tea = Slot(scope=Scope.of(products=("tea",)))
    lines = [line("tea", 9_00, category="food"), line("ham", 5_00, category="food")]
    for slots in ((any_food, the_tea), (the_tea, any_food)):
        bundle = ProductBundle(slots=slots, amount=3_00)
        assert price(lines, offer("x", bundle)).totals.saving == 3_00


@pytest.mark.parametrize(("bp", "price_each"), [(10_000, 0), (5000, 3_00)])
def test_buy_two_get_the_cheapest_third(bp: int, price_each: int) -> None:
    two_plus_one = BuyGet(buy=Slot(quantity=2), bp=bp)
    priced = price([line("a", 6_00), line("b", 9_00), line("c", 7_00)], offer("x", two_plus_one))
    assert pays(priced) == [price_each, 9_00, 7_00]


@pytest.mark.parametrize(("quantity", "saving"), [(1, 0), (2, 5_00), (3, 5_00), (4, 10_00)])
def test_second_at_half_price(quantity: int, saving: int) -> None:
    half = offer("x", BuyGet(bp=5000))
    assert price([line("a", 10_00, quantity)], half).totals.saving == saving


def test_buy_one_thing_get_another() -> None:
    buy, get = (Slot(scope=Scope.of(products=(p,))) for p in ("shoes", "socks"))
    deal = offer("x", BuyGet(buy=buy, get=get, max_times=1))
    assert pays(price([line("socks", 4_00, 3), line("shoes", 60_00, 2)], deal)) == [8_00, 120_00]
    assert reasons(price([line("socks", 4_00)], deal)) == {"x": "too_few_units"}


def test_units_bought_for_a_deal_are_used_up() -> None:
    deal = BuyGet()
    alone = Stacking(exclusive=True)
    priced = price(
        [line("a", 10_00, 3)], offer("x", deal, stacking=alone), offer("y", PercentOff(bp=1000))
    )
    assert savings(priced) == {"x": 10_00, "y": 1_00}  # y has the third unit alone


def test_what_costs_nothing_buys_nothing() -> None:
    deal = offer("x", BuyGet())
    sample = price([line("sample", 0), line("shoe", 60_00)], deal)
    assert (pays(sample), reasons(sample)) == ([0, 60_00], {"x": "too_few_units"})
    # the mug that the first deal gave away does not buy the other one
    both = price([line("mug", 10_00, 2)], deal, offer("y", BuyGet()))
    assert both.totals.pay == 10_00


def test_free_shipping_by_method_and_up_to_an_amount() -> None:
    for methods, saving in (((), 3_00), (("post",), 3_00), (("bike",), 0)):
        free = offer("s", FreeShipping(max_amount=3_00, methods=methods))
        priced = price([TEA], free, shipping=5_00)
        assert priced.totals.shipping_saving == saving
        assert reasons(priced) == ({} if saving else {"s": "wrong_method"})
    assert reasons(price([TEA], free)) == {"s": "no_shipping"}


def test_percentages_off_shipping() -> None:
    half = offer("s", PercentOff(bp=5000), stacking=Stacking(layer="shipping"))
    priced = price([TEA], half, shipping=4_99)
    assert priced.shipping == ("post", 4_99, 2_50, (("s", 2_49),))
    assert pays(priced) == [10_00]


def test_gifts_come_last_while_stock_and_budget_last() -> None:
    gifts = [offer(i, Gift(sku="mug", quantity=2, unit_cost=80)) for i in ("g1", "g2")]
    priced = price([TEA], *gifts, gift_stock={"mug": 3})
    assert priced.gifts == (("g1", "mug", 2, 1_60),)
    assert priced.totals.gift_cost == 1_60
    assert reasons(priced) == {"g2": "gift_out_of_stock"}
    poor = offer("g", Gift(sku="mug", unit_cost=80), caps=Caps(budget=5_00))
    assert reasons(price([TEA], poor, left={"g": CapsLeft(budget=79)})) == {"g": "budget_spent"}
    assert price([TEA], poor, left={"g": CapsLeft(budget=80)}).totals.gift_cost == 80


def test_gifts_may_be_chosen() -> None:
    gift = offer("g", Gift(sku="mug", choice_of=("cup",)))
    assert price([TEA], gift, gift_choice={"g": "cup"}).gifts[0].sku == "cup"
    with pytest.raises(DataError, match=r"context\.gift_choice\['g'\]: must be one of mug, cup"):
        price([TEA], gift, gift_choice={"g": "tv"})


def test_message_changes_no_price_and_says_so() -> None:
    assert reasons(price([TEA], offer("m", Message()))) == {"m": "no_price_change"}


# Scope.


def test_scope_knows_items_by_id_category_brand_and_tag() -> None:
    item = CartLine(
        item_id="i", list_price=1, category="food > tea", brand="leaf", tags=("new", "bio")
    )
    for fields in (
        {"products": ("x", "i")},
        {"categories": ("food",)},
        {"categories": ("food > tea",)},
        {"brands": ("leaf",)},
        {"tags": ("bio",)},
        {},
    ):
        assert Scope.of(**fields).holds(item)
    for fields in (
        {"products": ("leaf",)},
        {"categories": ("food > te",)},
        {"categories": ("tea",)},
        {"brands": ("i",)},
        {"tags": ("leaf",)},
    ):
        assert not Scope.of(**fields).holds(item)
    assert not Scope(exclude=Selection(tags=("new",))).holds(item)
    assert not Scope(skip_on_sale=True).holds(replace(item, is_on_sale=True))


# Trigger and audience.


@pytest.mark.parametrize(
    ("trigger", "reason"),
    [
        (Trigger(min_spend=20_01), "below_min_spend"),
        (Trigger(min_spend=20_00), None),
        (Trigger(min_units=3), "below_min_units"),
        (Trigger(min_units=2), None),
        (Trigger(min_spend=10_01, required_scope=Scope.of(products=("tea",))), "below_min_spend"),
        (Trigger(min_units=1, required_scope=Scope.of(products=("tv",))), "below_min_units"),
        (Trigger(required_scope=Scope.of(products=("tea",))), None),
        (Trigger(kind="member"), "not_member"),
        (Trigger(kind="unique_code"), "code_missing"),
    ],
)
def test_triggers(trigger: Trigger, reason: str | None) -> None:
    priced = price([TEA, line("mug", 10_00)], offer("x", PercentOff(bp=1000), trigger=trigger))
    assert reasons(priced).get("x") == reason


@pytest.mark.parametrize(
    ("audience", "facts", "reason"),
    [
        ({"segments_any": ("a", "b")}, {"segments": frozenset({"b"})}, None),
        ({"segments_any": ("a", "b")}, {"segments": frozenset({"c"})}, "not_in_segment"),
        ({"segments_none": ("a",)}, {"segments": frozenset({"a", "c"})}, "excluded_segment"),
        ({"members_only": True}, {}, "not_member"),
        ({"members_only": True}, {"is_member": True}, None),
        ({"first_order": True}, {"n_orders": 0}, None),
        ({"first_order": True}, {"n_orders": 1}, "wrong_order_count"),
        ({"first_order": True}, {}, "user_unknown"),
        ({"min_orders": 1, "max_orders": 2}, {"n_orders": 0}, "wrong_order_count"),
        ({"min_orders": 1, "max_orders": 2}, {"n_orders": 2}, None),
        ({"min_orders": 1, "max_orders": 2}, {"n_orders": 3}, "wrong_order_count"),
        ({"channels": ("app",)}, {"channel": "web"}, "wrong_channel"),
        ({"countries": ("DE",)}, {"country": "DE"}, None),
        ({"countries": ("DE",)}, {"country": "FR"}, "wrong_country"),
        ({"user_ids_ref": "vip"}, {"lists": frozenset({"vip"})}, None),
        ({"user_ids_ref": "vip"}, {}, "not_on_list"),
        ({"holdout_bp": 1}, {}, "user_unknown"),
    ],
)
def test_audiences(audience: dict[str, Any], facts: dict[str, Any], reason: str | None) -> None:
    asked = offer("x", PercentOff(bp=1000), audience=Audience(**audience))
    assert reasons(price([TEA], asked, **facts)).get("x") == reason


def test_holdout_has_its_share_and_is_the_same_everywhere() -> None:
    audience = Audience(holdout_bp=1000, salt="2026")
    held = [i for i in range(20_000) if audience.holds_out(f"u{i}", "x")]
    assert abs(len(held) - 2000) < 4 * (20_000 * 0.1 * 0.9) ** 0.5
    assert held[:5] == HELD  # a change of these moves every customer between the groups
    assert held == [i for i in range(20_000) if audience.holds_out(f"u{i}", "y")]
    own = Audience(holdout_bp=1000)
    both = [i for i in held if own.holds_out(f"u{i}", "x")]
    assert abs(len(both) - 200) < 4 * (2000 * 0.1 * 0.9) ** 0.5  # other salt: independent
    wider = Audience(holdout_bp=2000, salt="2026")
    assert all(wider.holds_out(f"u{i}", "x") for i in held)


HELD = [12, 15, 27, 35, 52]


# Window.


@pytest.mark.parametrize(("hours", "reason"), [(-1, "not_started"), (0, None), (24, "ended")])
def test_window_is_half_open(hours: int, reason: str | None) -> None:
    window = Window(start_at=NOW, end_at=NOW + timedelta(days=1))
    priced = price(
        [TEA], offer("p", PercentOff(bp=1000), window=window), now=NOW + timedelta(hours=hours)
    )
    assert reasons(priced).get("p") == reason


@pytest.mark.parametrize(
    ("window", "now", "reason"),
    [
        ({"weekdays": ("mon",)}, "2026-01-05T23:59:59+00:00", None),
        ({"weekdays": ("mon",)}, "2026-01-06T00:00:00+00:00", "wrong_weekday"),
        # Monday in Auckland while it is Sunday in UTC
        ({"weekdays": ("mon",), "timezone": "Pacific/Auckland"}, "2026-01-04T12:00:00+00:00", None),
        ({"from_hour": 9, "to_hour": 17}, "2026-01-05T08:59:59+00:00", "wrong_hour"),
        ({"from_hour": 9, "to_hour": 17}, "2026-01-05T09:00:00+00:00", None),
        ({"from_hour": 9, "to_hour": 17}, "2026-01-05T17:00:00+00:00", "wrong_hour"),
        ({"from_hour": 22, "to_hour": 2}, "2026-01-05T23:00:00+00:00", None),
        ({"from_hour": 22, "to_hour": 2}, "2026-01-05T01:59:00+00:00", None),
        ({"from_hour": 22, "to_hour": 2}, "2026-01-05T02:00:00+00:00", "wrong_hour"),
        # 9 o'clock in Berlin is 7 UTC in summer, 8 UTC in winter
        ({"from_hour": 9, "timezone": "Europe/Berlin"}, "2026-07-06T07:00:00+00:00", None),
        ({"from_hour": 9, "timezone": "Europe/Berlin"}, "2026-01-05T07:00:00+00:00", "wrong_hour"),
    ],
)
def test_weekdays_and_hours_are_local(window: dict[str, Any], now: str, reason: str | None) -> None:
    timed = offer("p", PercentOff(bp=1000), window=Window(**window))
    assert reasons(price([TEA], timed, now=datetime.fromisoformat(now))).get("p") == reason


# Caps and floors.


def test_floor_and_margin_stop_each_unit() -> None:
    lines = [line("a", 10_00, unit_cost=6_00), line("b", 10_00, unit_cost=2_00)]
    half = PercentOff(bp=5000)
    assert pays(price(lines, offer("x", half, caps=Caps(floor_price=7_00)))) == [7_00, 7_00]
    # 6.00 / (1 - 0.25) = 8.00
    assert pays(price(lines, offer("x", half, caps=Caps(min_margin_bp=2500)))) == [8_00, 5_00]
    unknown = [line("c", 10_00)]
    priced = price(unknown, offer("x", half, caps=Caps(min_margin_bp=0)))
    assert reasons(priced) == {"x": "cost_unknown"}


def test_an_amount_goes_where_floors_leave_room() -> None:
    lines = [line("a", 10_00, unit_cost=9_00), line("b", 10_00, unit_cost=0)]
    minus = offer("x", AmountOff(amount=8_00), caps=Caps(min_margin_bp=0))
    assert price(lines, minus).totals.saving == 8_00
    much = offer("x", AmountOff(amount=12_00), caps=Caps(min_margin_bp=0))
    assert pays(price(lines, much)) == [9_00, 0]


def test_the_cap_per_order_scales_by_largest_remainder() -> None:
    capped = offer("x", PercentOff(bp=5000), caps=Caps(per_order_money=1_00))
    assert pays(price([line("a", 3_00), line("b", 6_00)], capped)) == [2_67, 5_33]


def test_caps_bind_at_once_so_that_later_offers_see_true_prices() -> None:
    capped = offer("a", PercentOff(bp=5000), caps=Caps(per_order_money=2_00))
    later = offer("b", PercentOff(bp=1000))
    assert savings(price([line("tv", 100_00)], capped, later)) == {"a": 2_00, "b": 9_80}


def test_an_offer_of_a_group_is_judged_by_what_its_caps_let_it_give() -> None:
    best = Stacking(group="g", in_group="best")
    deep = offer("a", PercentOff(bp=5000), stacking=best, caps=Caps(per_order_money=2_00))
    flat = offer("b", PercentOff(bp=1000), stacking=best)
    assert savings(price([line("tv", 100_00)], deep, flat)) == {"b": 10_00}


# Input.


def test_two_offers_of_one_id_and_another_currency_are_refused() -> None:
    twice = [offer("p", PercentOff(bp=1000))] * 2
    with pytest.raises(DataError, match="offer 'p': id"):
        price([TEA], *twice)
    euros = Offer(id="e", currency="EUR", mechanic=PercentOff(bp=1000))
    with pytest.raises(DataError, match=r"offer 'e': currency: .* USD; got EUR"):
        price([TEA], euros)


def test_groups_must_agree() -> None:
    offers = [
        offer(rule, PercentOff(bp=1000), stacking=Stacking(group="g", in_group=rule))
        for rule in ("best", "first")
    ]
    with pytest.raises(DataError, match=r"offer 'first': stacking\.in_group"):
        price([TEA], *offers)


@pytest.mark.parametrize(
    "fields", [{"list_price": -1}, {"quantity": 0}, {"list_price": 1.5}, {"quantity": True}]
)
def test_bad_lines_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="cart line 'a'"):
        CartLine(**{"item_id": "a", "list_price": 1, **fields})


def test_times_need_a_zone() -> None:
    with pytest.raises(DataError, match=r"context\.now"):
        Context(now=datetime(2026, 1, 5))
    assert Context(now=datetime(2026, 1, 5, tzinfo=UTC)).user_id == ""


@pytest.mark.parametrize(
    ("facts", "match"),
    [
        ({"now": "2026-01-05"}, r"context\.now: must be a time"),
        ({"now": datetime.max.replace(tzinfo=UTC)}, r"context\.now: must lie in the years"),
        ({"segments": "vip"}, r"context\.segments: must be a frozenset"),
        ({"codes": frozenset({3})}, r"context\.codes\[0\]: must be a text"),
        ({"user_id": None}, r"context\.user_id: must be a text"),
        ({"n_orders": "3"}, r"context\.n_orders: must be an integer"),
        ({"n_orders": -3}, r"context\.n_orders: must be an integer"),
        ({"left": {"x": 3}}, r"context\.left\['x'\]: must be a CapsLeft; got 3"),
        ({"left": 3}, r"context\.left: must be a mapping"),
        ({"gift_stock": {"mug": 1.5}}, r"context\.gift_stock\['mug'\]: must be an integer"),
        ({"gift_choice": {"g": 1}}, r"context\.gift_choice\['g'\]: must be a text"),
    ],
)
def test_bad_facts_name_the_field(facts: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        Context(**{"now": NOW, **facts})


def test_an_empty_cart_is_priced_too() -> None:
    cart = Cart(currency="USD", lines=(), shipping=Shipping(price=5))
    priced = price_cart(
        cart,
        [
            offer("p", PercentOff(bp=1)),
            offer("t", Tiered(tiers=TIERS)),
            offer("s", FreeShipping()),
            offer("m", PercentOff(bp=1), trigger=Trigger(min_spend=1)),
        ],
        Context(now=NOW),
    )
    assert priced.totals == (0, 0, 5, 5, 0, 0)
    assert reasons(priced) == {"p": "not_in_scope", "t": "not_in_scope", "m": "below_min_spend"}
