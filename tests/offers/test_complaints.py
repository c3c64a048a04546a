"""What users of other engines complained of, with the figure that they expected.

The engines' trackers are named, since the texts there say why.
"""

from __future__ import annotations

import pytest
from small_carts import NOW, line, offer, pays, price, reasons, savings

from promo_ray.offers import (
    AmountOff,
    Caps,
    CapsLeft,
    FreeShipping,
    Offer,
    PercentOff,
    Scope,
    Stacking,
    Trigger,
)


def on_order(offer_id: str, mechanic: object, priority: int = 0, base: str = "running") -> Offer:
    return offer(offer_id, mechanic, stacking=Stacking(layer="order", priority=priority, base=base))


# The total depends on the order of rules: Magento 39448 and 36799.


@pytest.mark.parametrize(
    ("amount_first", "base", "saving"),
    [(True, "running", 190_00), (False, "running", 200_00)]
    + [(first, "initial", 200_00) for first in (True, False)],
)
def test_amount_and_percent_depend_on_priority_only_with_running_base(
    amount_first: bool, base: str, saving: int
) -> None:
    priced = price(
        [line("tv", 1000_00)],
        on_order("minus100", AmountOff(amount=100_00), 0 if amount_first else 2, base),
        on_order("percent10", PercentOff(bp=1000), 1, base),
    )
    assert priced.totals.saving == saving


@pytest.mark.parametrize(("base", "saving"), [("initial", 15_00), ("running", 14_50)])
def test_five_and_ten_percent_give_fifteen_on_initial_prices(base: str, saving: int) -> None:
    offers = [on_order(f"p{bp}", PercentOff(bp=bp), bp, base) for bp in (500, 1000)]
    assert price([line("mug", 100_00)], *offers).totals.saving == saving


# Ties of priorities: merchdocs 286.


@pytest.mark.parametrize(("ids", "pay"), [(("a", "b"), 2_00), (("b", "a"), 0)])
def test_ties_of_priority_are_broken_by_id_and_total_stops_at_zero(
    ids: tuple[str, str], pay: int
) -> None:
    minus6, half = ids
    offers = [on_order(half, PercentOff(bp=5000)), on_order(minus6, AmountOff(amount=6_00))]
    mug = [line("mug", 10_00)]
    assert price(mug, *offers).totals.pay == pay
    assert price(mug, *offers[::-1]) == price(mug, *offers)


# Stop flags that stop too much: Magento 35707, 27202, 37985; commercetools 2018.


def test_stop_holds_only_on_the_units_that_were_touched() -> None:
    tea = Scope.of(products=("tea",))
    priced = price(
        [line("tea", 10_00), line("mug", 10_00)],
        offer("a", PercentOff(bp=2000), scope=tea, stacking=Stacking(stop=True)),
        offer("b", PercentOff(bp=1000)),
    )
    assert pays(priced) == [8_00, 9_00]


def test_stop_holds_only_after_something_was_saved() -> None:
    nothing = Caps(floor_price=10_00)
    priced = price(
        [line("tea", 10_00)],
        offer("a", PercentOff(bp=2000), caps=nothing, stacking=Stacking(stop=True)),
        offer("b", PercentOff(bp=1000)),
    )
    assert pays(priced) == [9_00]
    assert reasons(priced) == {"a": "nothing_left"}


def test_stop_does_not_reach_beyond_its_layer() -> None:
    priced = price(
        [line("tea", 10_00)],
        offer("a", PercentOff(bp=2000), stacking=Stacking(stop=True)),
        offer("b", PercentOff(bp=1000)),
        offer("c", AmountOff(amount=1_00)),
        offer("d", FreeShipping()),
        shipping=5_00,
    )
    assert savings(priced) == {"a": 2_00, "c": 1_00, "d": 5_00}
    assert reasons(priced) == {"b": "closed"}


# Rounding: Sylius 14522, Magento 32351, VirtoCommerce storefront 122.


def test_percentage_rounds_the_price_half_up() -> None:
    assert price([line("shirt", 10_50)], offer("p", PercentOff(bp=1500))).totals.pay == 8_93


@pytest.mark.parametrize("quantity", [1, 2, 3, 7, 100])
def test_no_penny_is_out_with_quantities(quantity: int) -> None:
    priced = price([line("pen", 33, quantity)], offer("p", PercentOff(bp=1000)))
    exact = 33 * quantity * 0.9
    assert abs(priced.totals.pay - exact) <= 0.5
    assert sum(a.saving for a in priced.applied) == 33 * quantity - priced.totals.pay


def test_percentage_is_rounded_once_per_offer_not_per_unit_or_line() -> None:
    priced = price([line("pen", 33, 3), line("ink", 33, 4)], offer("p", PercentOff(bp=1000)))
    # 2.079 once; seven units at 0.297 would give 2.10
    assert priced.totals.pay == 2_08
    assert priced.totals.saving == 23


# A discount lost in stacking: Sylius 13371.


def test_no_discount_is_lost_when_an_order_offer_meets_a_free_item() -> None:
    priced = price(
        [line("a", 25_00), line("b", 50_00), line("c", 75_00)],
        offer("minus30", AmountOff(amount=30_00)),
        offer("free", PercentOff(bp=10_000), scope=Scope.of(products=("a",))),
    )
    assert pays(priced) == [0, 38_00, 57_00]
    assert savings(priced) == {"free": 25_00, "minus30": 30_00}


# The wrong line: Saleor 12107, Sylius 8118.


def test_an_offer_for_one_unit_takes_the_cheapest_of_its_scope_not_of_the_cart() -> None:
    drinks = Scope(include=Scope.of(categories=("drinks",)).include, max_units=1)
    priced = price(
        [
            line("pin", 1_00),
            line("wine", 20_00, 2, category="drinks > wine"),
            line("tea", 8_00, 3, category="drinks"),
        ],
        offer("half", PercentOff(bp=5000), scope=drinks),
    )
    assert pays(priced) == [1_00, 40_00, 20_00]


def test_what_must_be_bought_and_what_gets_cheaper_are_two_things() -> None:
    socks, shoes = Scope.of(products=("socks",)), Scope.of(products=("shoes",))
    half_socks = offer(
        "half", PercentOff(bp=5000), scope=socks, trigger=Trigger(required_scope=shoes)
    )
    hat = line("hat", 15_00)
    assert pays(price([hat, line("socks", 4_00), line("shoes", 60_00)], half_socks)) == [
        15_00,
        2_00,
        60_00,
    ]
    alone = price([hat, line("socks", 4_00)], half_socks)
    assert reasons(alone) == {"half": "below_min_units"}


# Caps: Vendure 4353 (not enforced), 1466 (not returned), 125 (in money), 2330 (global).


@pytest.mark.parametrize(
    ("trigger", "facts"),
    [
        (Trigger(), {}),
        (Trigger(kind="shared_code", code="X"), {"codes": frozenset({"x"})}),
        (Trigger(kind="unique_code"), {"unlocked": frozenset({"p"})}),
        (Trigger(kind="member"), {"is_member": True}),
    ],
)
@pytest.mark.parametrize(
    ("caps", "left", "reason"),
    [
        (Caps(uses=5), CapsLeft(uses=0), "uses_spent"),
        (Caps(uses_per_user=1), CapsLeft(user_uses=0), "user_uses_spent"),
        (Caps(budget=100_00), CapsLeft(budget=0), "budget_spent"),
        (Caps(per_user_money=9_00), CapsLeft(user_money=0), "user_money_spent"),
    ],
)
def test_caps_hold_for_every_kind_of_trigger(
    trigger: Trigger, facts: dict[str, object], caps: Caps, left: CapsLeft, reason: str
) -> None:
    limited = offer("p", PercentOff(bp=1000), trigger=trigger, caps=caps)
    tea = [line("tea", 10_00)]
    assert price(tea, limited, user_id="u", **facts).totals.saving == 1_00
    spent = price(tea, limited, user_id="u", left={"p": left}, **facts)
    assert reasons(spent) == {"p": reason}


def test_a_use_that_was_given_back_counts_again() -> None:
    once = offer("p", PercentOff(bp=1000), caps=Caps(uses=1))
    tea = [line("tea", 10_00)]
    before = price(tea, once)
    assert price(tea, once, left={"p": CapsLeft(uses=0)}).totals.saving == 0
    assert price(tea, once, left={"p": CapsLeft(uses=1)}) == before


def test_the_last_of_a_budget_is_given_in_part() -> None:
    limited = offer("p", PercentOff(bp=1000), caps=Caps(budget=100_00))
    priced = price([line("tv", 50_00), line("set", 30_00)], limited, left={"p": CapsLeft(budget=5)})
    assert savings(priced) == {"p": 5}
    assert pays(priced) == [49_97, 29_98]


# No record of a discount: Saleor 8910, 12109.


def test_every_discount_of_lines_and_shipping_is_recorded_with_its_offer() -> None:
    priced = price(
        [line("tea", 10_00)],
        offer("all", PercentOff(bp=10_000), version=3),
        offer("ship", FreeShipping()),
        shipping=4_99,
    )
    assert priced.totals.pay == 0
    assert [(a.offer_id, a.version, a.by_line, a.shipping) for a in priced.applied] == [
        ("all", 3, (10_00,), 0),
        ("ship", 1, (0,), 4_99),
    ]
    assert priced.lines[0].discounts == (("all", 10_00),)
    assert priced.shipping is not None
    assert priced.shipping.discounts == (("ship", 4_99),)


# What was asked for.


def test_exclusive_offers_keep_their_units_to_themselves() -> None:  # Vendure 3585
    tea = Scope.of(products=("tea",))
    lines = [line("tea", 10_00), line("mug", 10_00)]
    alone = offer("member", PercentOff(bp=3000), scope=tea, stacking=Stacking(exclusive=True))
    others = [offer("sale", PercentOff(bp=1000)), offer("minus", AmountOff(amount=2_00))]
    priced = price(lines, alone, *others)
    assert pays(priced) == [7_00, 7_00]
    # whoever comes first has the units: an exclusive offer does not join later
    late = offer("z", PercentOff(bp=3000), scope=tea, stacking=Stacking(exclusive=True, priority=9))
    assert reasons(price(lines, late, *others)) == {"z": "closed"}


def test_an_exclusive_order_offer_closes_its_layer_alone() -> None:
    only = Stacking(exclusive=True)
    priced = price(
        [line("tv", 100_00)],
        offer("a", AmountOff(amount=5_00), stacking=only),
        offer("b", AmountOff(amount=7_00)),
        offer("item", PercentOff(bp=1000)),
        offer("ship", FreeShipping()),
        shipping=5_00,
    )
    assert savings(priced) == {"item": 10_00, "a": 5_00, "ship": 5_00}
    assert reasons(priced) == {"b": "layer_closed"}
    last = offer("z", AmountOff(amount=5_00), stacking=only)
    assert reasons(price([line("tv", 100_00)], last, offer("b", AmountOff(amount=7_00)))) == {
        "z": "layer_closed"
    }


@pytest.mark.parametrize(
    ("rule", "saving"),
    [("best", 6_00), ("smallest", 2_00), ("first", 4_00), ("all", 4_00 + 6_00 + 2_00)],
)
def test_groups_take_the_largest_the_smallest_the_first_or_all(rule: str, saving: int) -> None:
    # VirtoCommerce 387, Reaction 6823
    offers = [
        offer(name, AmountOff(amount=amount), stacking=Stacking(group="g", in_group=rule))
        for name, amount in (("a", 4_00), ("b", 6_00), ("c", 2_00))
    ]
    priced = price([line("tv", 100_00)], *offers)
    assert priced.totals.saving == saving
    others = {"best": {"a": "group_beaten", "c": "group_beaten"}}
    others["smallest"] = {"a": "group_beaten", "b": "group_beaten"}
    others["first"] = {"b": "group_taken", "c": "group_taken"}
    assert reasons(priced) == others.get(rule, {})


def test_first_of_a_group_is_the_first_that_saves() -> None:
    first = Stacking(group="g", in_group="first")
    elsewhere = Scope.of(products=("x",))
    priced = price(
        [line("tv", 100_00)],
        offer("a", AmountOff(amount=2_00), scope=elsewhere, stacking=first),
        offer("b", AmountOff(amount=6_00), stacking=first),
    )
    assert savings(priced) == {"b": 6_00}
    assert reasons(priced) == {"a": "not_in_scope"}


@pytest.mark.parametrize("rule", ["best", "smallest"])
def test_ties_within_a_group_go_to_the_smaller_id(rule: str) -> None:
    stacking = Stacking(group="g", in_group=rule)
    twins = [offer(i, AmountOff(amount=2_00), stacking=stacking) for i in ("b", "a")]
    assert savings(price([line("tv", 100_00)], *twins)) == {"a": 2_00}


def test_the_smallest_of_a_group_is_the_smallest_that_saves() -> None:
    smallest = Stacking(group="g", in_group="smallest")
    priced = price(
        [line("tv", 100_00)],
        offer("a", PercentOff(bp=1000), stacking=smallest),
        offer("b", PercentOff(bp=500), stacking=smallest, caps=Caps(floor_price=100_00)),
        offer("c", PercentOff(bp=2000), stacking=smallest),
    )
    assert savings(priced) == {"a": 10_00}
    assert reasons(priced) == {"b": "nothing_left", "c": "group_beaten"}


def test_one_code_gives_a_discount_and_free_shipping() -> None:  # Saleor 3569
    code = Trigger(kind="shared_code", code="SPRING")
    offers = [
        offer("off", PercentOff(bp=1000), trigger=code),
        offer("ship", FreeShipping(), trigger=code),
    ]
    tea = [line("tea", 10_00)]
    assert savings(price(tea, *offers, shipping=5_00, codes=frozenset({" spring "}))) == {
        "off": 1_00,
        "ship": 5_00,
    }
    assert set(reasons(price(tea, *offers, shipping=5_00)).values()) == {"code_missing"}


def test_items_on_sale_are_skipped() -> None:  # Sylius 7213
    lines = [line("old", 10_00, is_on_sale=True), line("new", 10_00)]
    fresh = offer("p", PercentOff(bp=2000), scope=Scope(skip_on_sale=True))
    assert pays(price(lines, fresh)) == [10_00, 8_00]


def test_offers_that_combine_with_other_layers_only() -> None:  # Reaction 6455, Shopify
    apart = Stacking(combines_with=("order", "shipping"))
    lines = [line("tea", 10_00)]
    priced = price(
        lines,
        offer("a", PercentOff(bp=2000), stacking=apart),
        offer("b", PercentOff(bp=5000)),
        offer("c", AmountOff(amount=1_00)),
    )
    assert savings(priced) == {"a": 2_00, "c": 1_00}
    assert reasons(priced) == {"b": "not_combinable"}
    # it must hold for both: c would stand beside a, a would not beside c
    loner = Stacking(combines_with=())
    priced = price(
        lines,
        offer("a", PercentOff(bp=2000), stacking=loner),
        offer("c", AmountOff(amount=1_00)),
    )
    assert savings(priced) == {"a": 2_00}


def test_now_is_a_monday_for_the_other_tests() -> None:
    assert NOW.strftime("%a") == "Mon"
