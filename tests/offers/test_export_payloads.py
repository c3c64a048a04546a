"""Payloads of the main mechanics, written by hand from the API documents of each platform."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from promo_ray.offers import (
    AmountOff,
    Audience,
    BuyGet,
    Caps,
    FixedPrice,
    FreeShipping,
    Gift,
    Offer,
    PercentOff,
    ProductBundle,
    Provenance,
    Scope,
    Slot,
    Stacking,
    Tier,
    Tiered,
    Trigger,
    Window,
    export_offer,
)
from promo_ray.registry import methods

TEA = Scope.of(products=("tea",))
JANUARY = Window(start_at=datetime(2026, 1, 1, tzinfo=UTC), end_at=datetime(2026, 2, 1, tzinfo=UTC))
START, END = "2026-01-01T00:00:00.000000Z", "2026-02-01T00:00:00.000000Z"
PERCENT = Offer(id="o1", currency="EUR", mechanic=PercentOff(bp=1250), scope=TEA, window=JANUARY)
ORDER = Offer(
    id="o2",
    currency="EUR",
    mechanic=AmountOff(amount=1000),
    trigger=Trigger(kind="shared_code", code="TEN", min_spend=5000),
    caps=Caps(uses=100, uses_per_user=1),
)
TWO_PLUS_ONE = Offer(
    id="o3",
    currency="EUR",
    mechanic=BuyGet(buy=Slot(scope=TEA, quantity=2), get=Slot(scope=TEA), max_times=1),
)
SHIPPING = Offer(id="o4", currency="EUR", mechanic=FreeShipping())
TIER = Offer(id="o5", currency="EUR", mechanic=Tiered(tiers=(Tier(min=5000, bp=1000),)))
GIFT = Offer(id="o6", currency="EUR", mechanic=Gift(sku="mug"), trigger=Trigger(min_spend=5000))
BUNDLE = Offer(
    id="o7", currency="EUR", mechanic=ProductBundle.of_items("tea", "cup", price=1500, max_times=2)
)


def part(exported: Any, *path: str) -> Any:
    for key in path:
        exported = exported[key]
    return exported


def payload(offer: Offer, target: str, *path: str) -> Any:
    return part(export_offer(offer, target).payload, *path)


def test_commercetools_percent_off() -> None:
    assert export_offer(PERCENT, "commercetools").payload == {
        "cart-discounts": {
            "key": "o1",
            "name": {"en": "o1"},
            "value": {"type": "relative", "permyriad": 1250},
            "cartPredicate": 'lineItemTotal(1 = 1) >= "0.00 EUR"',
            "target": {"type": "lineItems", "predicate": 'sku in ("tea")'},
            "sortOrder": "0.31000000000145207999",  # layer, priority, bytes of the id
            "isActive": True,
            "validFrom": START,
            "validUntil": END,
            "requiresDiscountCode": False,
            "stackingMode": "Stacking",
        }
    }


def test_commercetools_amount_off_with_code() -> None:
    found = export_offer(ORDER, "commercetools")
    draft = found.payload["cart-discounts"]
    money = [{"currencyCode": "EUR", "centAmount": 1000}]
    mode = "ProportionateDistribution"
    assert draft["value"] == {"type": "absolute", "money": money, "applicationMode": mode}
    assert draft["target"] == {"type": "totalPrice"}
    assert draft["cartPredicate"] == 'lineItemTotal(1 = 1) >= "50.00 EUR"'
    assert draft["requiresDiscountCode"] is True
    assert found.payload["discount-codes"] == {
        "code": "TEN",
        "cartDiscounts": [{"typeId": "cart-discount", "key": "o2"}],
        "isActive": True,
        "maxApplications": 100,
        "maxApplicationsPerCustomer": 1,
    }
    assert found.losses == ()


def test_commercetools_patterns_and_gift() -> None:
    def units(sku: str, n: int) -> dict[str, Any]:
        kind = {"type": "CountOnLineItemUnits", "predicate": f'sku in ("{sku}")'}
        return {**kind, "minCount": n, "maxCount": n}

    assert payload(TWO_PLUS_ONE, "commercetools", "cart-discounts", "target") == {
        "type": "pattern",
        "triggerPattern": [units("tea", 2)],
        "targetPattern": [units("tea", 1)],
        "maxOccurrence": 1,
        "selectionMode": "Cheapest",
    }
    bundle = payload(BUNDLE, "commercetools", "cart-discounts")
    assert bundle["value"]["type"] == "fixed"
    assert bundle["target"]["triggerPattern"] == []
    assert bundle["target"]["targetPattern"] == [units("tea", 1), units("cup", 1)]
    gift = payload(GIFT, "commercetools", "cart-discounts")
    product = {"typeId": "product", "key": "mug"}
    assert gift["value"] == {"type": "giftLineItem", "product": product, "variantId": 1}
    assert "target" not in gift


def test_commercetools_best_of_a_group() -> None:
    stacking = Stacking(group="spring", in_group="best", priority=5, stop=True)
    offer = Offer(id="o1", currency="EUR", mechanic=PercentOff(bp=1000), stacking=stacking)
    found = export_offer(offer, "commercetools")
    draft = found.payload["cart-discounts"]
    assert draft["discountGroup"] == {"typeId": "discount-group", "key": "spring"}
    assert draft["stackingMode"] == "StopAfterThisDiscount"
    assert "sortOrder" not in draft
    assert found.payload["discount-groups"]["sortOrder"].startswith("0.30999999995")
    assert found.losses == ()


def test_commercetools_sort_orders_rise_as_offers_go_back() -> None:
    keys = [("b", -1), ("a", 0), ("ab", 0), ("b", 0), ("a", 7)]
    offers = [
        Offer(id=name, currency="EUR", mechanic=PercentOff(bp=1), stacking=Stacking(priority=p))
        for name, p in keys
    ]
    orders = [payload(o, "commercetools", "cart-discounts", "sortOrder") for o in offers]
    assert sorted(orders, reverse=True) == orders


def test_medusa() -> None:
    assert export_offer(PERCENT, "medusa").payload == {
        "promotions": {
            "code": "o1",
            "is_automatic": True,
            "type": "standard",
            "status": "active",
            "campaign": {
                "name": "o1",
                "campaign_identifier": "o1",
                "starts_at": START,
                "ends_at": END,
            },
            "application_method": {
                "currency_code": "eur",
                "type": "percentage",
                "value": 12.5,
                "target_type": "items",
                "allocation": "across",
                "target_rules": [
                    {"attribute": "items.product.id", "operator": "in", "values": ["tea"]}
                ],
            },
        }
    }
    order = payload(ORDER, "medusa", "promotions")
    method = {"currency_code": "eur", "type": "fixed", "value": 10.0, "target_type": "order"}
    assert order["application_method"] == method
    assert order["rules"] == [{"attribute": "item_total", "operator": "gte", "values": ["50.00"]}]
    assert (order["code"], order["is_automatic"], order["limit"]) == ("TEN", False, 100)
    assert order["campaign"]["budget"] == {
        "type": "use_by_attribute",
        "limit": 1,
        "attribute": "customer_id",
    }
    bought = payload(TWO_PLUS_ONE, "medusa", "promotions", "application_method")
    rules = [{"attribute": "items.product.id", "operator": "in", "values": ["tea"]}]
    assert (bought["buy_rules"], bought["target_rules"]) == (rules, rules)
    assert (bought["buy_rules_min_quantity"], bought["apply_to_quantity"]) == (2, 1)
    lost = {loss.path: loss.reason for loss in export_offer(TWO_PLUS_ONE, "medusa").losses}
    assert lost == {"mechanic.pick": "the dearest units are got"}


def test_saleor() -> None:
    rule = {
        "cataloguePredicate": {"productPredicate": {"ids": ["tea"]}},
        "rewardValueType": "PERCENTAGE",
        "rewardValue": "12.5",
    }
    dates = {"startDate": START, "endDate": END}
    assert export_offer(PERCENT, "saleor").payload == {
        "promotionCreate": {"input": {"name": "o1", "type": "CATALOGUE", **dates, "rules": [rule]}}
    }
    (tier,) = payload(TIER, "saleor", "promotionCreate", "input", "rules")
    spend = {"discountedObjectPredicate": {"baseSubtotalPrice": {"range": {"gte": "50.00"}}}}
    assert tier["orderPredicate"] == spend
    assert tier["rewardType"] == "SUBTOTAL_DISCOUNT"
    (gift,) = payload(GIFT, "saleor", "promotionCreate", "input", "rules")
    assert gift == {"orderPredicate": spend, "rewardType": "GIFT", "gifts": ["mug"]}
    coded = replace(ORDER, audience=Audience(channels=("Q2hhbm5lbDox",)))
    found = export_offer(coded, "saleor")
    assert found.payload == {
        "voucherCreate": {
            "input": {
                "type": "ENTIRE_ORDER",
                "name": "o2",
                "addCodes": ["TEN"],
                "discountValueType": "FIXED",
                "applyOncePerCustomer": True,
                "usageLimit": 100,
            }
        },
        "voucherChannelListingUpdate": {
            "input": {
                "addChannels": [
                    {
                        "channelId": "Q2hhbm5lbDox",
                        "discountValue": "10.00",
                        "minAmountSpent": "50.00",
                    }
                ]
            }
        },
    }
    assert [loss.path for loss in found.losses] == ["currency"]


def test_vendure() -> None:
    def of(**arguments: str) -> list[dict[str, str]]:
        return [{"name": k, "value": v} for k, v in arguments.items()]

    always = of(amount="0", taxInclusive="true")
    assert export_offer(PERCENT, "vendure").payload == {
        "createPromotion": {
            "input": {
                "enabled": True,
                "startsAt": START,
                "endsAt": END,
                "conditions": [{"code": "minimum_order_amount", "arguments": always}],
                "actions": [
                    {
                        "code": "products_percentage_discount",
                        "arguments": of(discount="12.5", productVariantIds='["tea"]'),
                    }
                ],
                "translations": [{"languageCode": "en", "name": "o1", "description": ""}],
            }
        }
    }
    order = payload(ORDER, "vendure", "createPromotion", "input")
    assert (order["couponCode"], order["usageLimit"]) == ("TEN", 100)
    assert order["perCustomerUsageLimit"] == 1
    assert order["actions"] == [{"code": "order_fixed_discount", "arguments": of(discount="1000")}]
    bought = payload(TWO_PLUS_ONE, "vendure", "createPromotion", "input", "conditions")
    x, y = {"amountX": "2", "variantIdsX": '["tea"]'}, {"amountY": "1", "variantIdsY": '["tea"]'}
    assert bought == [{"code": "buy_x_get_y_free", "arguments": of(**x, **y)}]


def test_shopify() -> None:
    combines = {"productDiscounts": True, "orderDiscounts": True, "shippingDiscounts": True}
    assert export_offer(PERCENT, "shopify").payload == {
        "discountAutomaticBasicCreate": {
            "automaticBasicDiscount": {
                "title": "o1",
                "startsAt": START,
                "endsAt": END,
                "context": {"all": "ALL"},
                "combinesWith": combines,
                "customerGets": {
                    "items": {"products": {"productsToAdd": ["tea"]}},
                    "value": {"percentage": 0.125},
                },
            }
        }
    }
    order = payload(ORDER, "shopify", "discountCodeBasicCreate", "basicCodeDiscount")
    assert (order["code"], order["usageLimit"]) == ("TEN", 100)
    assert order["appliesOncePerCustomer"] is True
    amount = {"discountAmount": {"amount": "10.00", "appliesOnEachItem": False}}
    assert order["customerGets"] == {"items": {"all": True}, "value": amount}
    assert order["minimumRequirement"] == {"subtotal": {"greaterThanOrEqualToSubtotal": "50.00"}}
    bought = payload(
        TWO_PLUS_ONE, "shopify", "discountAutomaticBxgyCreate", "automaticBxgyDiscount"
    )
    tea = {"products": {"productsToAdd": ["tea"]}}
    assert bought["customerBuys"] == {"items": tea, "value": {"quantity": "2"}}
    got = {"discountOnQuantity": {"quantity": "1", "effect": {"percentage": 1.0}}}
    assert bought["customerGets"] == {"items": tea, "value": got}
    assert bought["usesPerOrderLimit"] == "1"
    free = payload(
        SHIPPING, "shopify", "discountAutomaticFreeShippingCreate", "freeShippingAutomaticDiscount"
    )
    assert free["destination"] == {"all": True}


def test_magento() -> None:
    model = "Magento\\SalesRule\\Model\\Rule\\Condition\\"
    rule = payload(PERCENT, "magento", "salesRules", "rule")
    assert (rule["simple_action"], rule["discount_amount"]) == ("by_percent", 12.5)
    assert (rule["from_date"], rule["to_date"]) == ("2026-01-01", "2026-01-31")
    assert rule["action_condition"] == {
        "condition_type": model + "Product\\Combine",
        "aggregator_type": "all",
        "value": "1",
        "conditions": [
            {
                "condition_type": model + "Product",
                "attribute_name": "sku",
                "operator": "()",
                "value": "tea",
            }
        ],
    }
    found = export_offer(ORDER, "magento").payload
    rule = found["salesRules"]["rule"]
    assert (rule["simple_action"], rule["discount_amount"]) == ("cart_fixed", 10.0)
    assert (rule["coupon_type"], rule["uses_per_customer"]) == ("SPECIFIC_COUPON", 1)
    assert rule["condition"]["conditions"] == [
        {
            "condition_type": model + "Address",
            "attribute_name": "base_subtotal",
            "operator": ">=",
            "value": "50.00",
        }
    ]
    assert found["coupons"] == {"coupon": {"code": "TEN", "usage_limit": 100, "is_primary": True}}
    bought = payload(TWO_PLUS_ONE, "magento", "salesRules", "rule")
    assert (bought["simple_action"], bought["discount_step"]) == ("buy_x_get_y", 2)
    free = payload(SHIPPING, "magento", "salesRules", "rule")
    assert free["simple_free_shipping"] == "FREE_WITH_MATCHING_ITEMS"


def test_what_a_shop_would_assume_is_a_loss() -> None:
    found = export_offer(PERCENT, "magento")
    rule = part(found.payload, "salesRules", "rule")
    assert (rule["website_ids"], rule["customer_group_ids"]) == ([1], [0, 1, 2, 3])
    lost = {loss.path: loss.reason for loss in found.losses}
    assert "website 1 only" in lost["audience.channels"]
    assert "customer groups 0 to 3 only" in lost["audience.segments_any"]
    named = replace(PERCENT, audience=Audience(channels=("2",), segments_any=("7", "8")))
    found = export_offer(named, "magento")
    rule = part(found.payload, "salesRules", "rule")
    assert (rule["website_ids"], rule["customer_group_ids"]) == ([2], [7, 8])
    assert [loss.path for loss in found.losses] == ["currency"]
    assert "audience.channels" in {loss.path for loss in export_offer(PERCENT, "saleor").losses}


def test_voucherify() -> None:
    items = {
        "included": [{"object": "product", "id": "tea"}],
        "excluded": [],
        "included_all": False,
    }
    discount = {"type": "PERCENT", "percent_off": 12.5, "effect": "APPLY_TO_ITEMS"}
    assert export_offer(PERCENT, "voucherify").payload == {
        "validation-rules": {"name": "o1", "type": "basic", "applicable_to": items},
        "campaigns": {
            "name": "o1",
            "campaign_type": "PROMOTION",
            "promotion": {"tiers": [{"name": "o1", "action": {"discount": discount}}]},
            "start_date": START,
            "expiration_date": END,
        },
    }
    found = export_offer(ORDER, "voucherify").payload
    assert found["vouchers"] == {
        "code": "TEN",
        "type": "DISCOUNT_VOUCHER",
        "discount": {"type": "AMOUNT", "amount_off": 1000, "effect": "APPLY_TO_ORDER"},
        "redemption": {"quantity": 100},
    }
    assert found["validation-rules"]["rules"]["1"] == {
        "name": "order.amount",
        "property": None,
        "conditions": {"$more_than_or_equal": [5000]},
        "rules": {},
    }
    assert found["validation-rules"]["rules"]["logic"] == "1 and 2"
    yen = Offer(id="o", currency="JPY", mechanic=AmountOff(amount=300))
    (tier,) = payload(yen, "voucherify", "campaigns", "promotion", "tiers")
    assert tier["action"]["discount"]["amount_off"] == 30_000  # hundredths in every currency


@pytest.mark.parametrize(
    ("target", "offer", "path"),
    [
        ("vendure", Offer(
            id="o", currency="EUR", mechanic=PercentOff(bp=1000), stacking=Stacking(exclusive=True)
        ), "stacking.exclusive"),
        ("vendure", Offer(id="o", currency="EUR", mechanic=PercentOff(bp=1), caps=Caps(budget=9)),
         "caps.budget"),
        ("saleor", TWO_PLUS_ONE, "mechanic.type"),
        ("voucherify", Offer(
            id="o", currency="EUR", mechanic=Tiered(tiers=(Tier(min=5000, amount=500),)),
            caps=Caps(per_order_money=300),
        ), "caps.per_order_money"),
        ("saleor", Offer(
            id="o", currency="EUR", mechanic=Tiered(tiers=(Tier(min=1, bp=1), Tier(min=2, bp=2)))
        ), "mechanic.tiers"),
        ("shopify", Offer(
            id="o", currency="EUR", mechanic=PercentOff(bp=1), caps=Caps(min_margin_bp=500)
        ), "caps.min_margin_bp"),
        ("shopify", Offer(
            id="o", currency="EUR", mechanic=PercentOff(bp=1), audience=Audience(holdout_bp=500)
        ), "audience.holdout_bp"),
    ],
)  # fmt: skip
def test_well_known_gaps_are_named(target: str, offer: Offer, path: str) -> None:
    assert path in {loss.path for loss in export_offer(offer, target).losses}


# The table of the documentation: what to add to an offer, and whose loss tells.
SHOP = Audience(channels=("7",))
BASES = (PERCENT, replace(ORDER, audience=SHOP), TWO_PLUS_ONE)
FEATURES: dict[str, tuple[str, dict[str, Any]]] = {
    "smallest spend": ("trigger.min_spend", {"trigger": Trigger(min_spend=5000)}),
    "smallest number of units": ("trigger.min_units", {"trigger": Trigger(min_units=3)}),
    "unique codes": ("trigger.kind", {"trigger": Trigger(kind="unique_code")}),
    "excluded items": ("scope.exclude", {"scope": Scope(exclude=TEA.include)}),
    "at most so many units": ("scope.max_units", {"scope": Scope(max_units=2)}),
    "segments": ("audience.segments_any", {"audience": Audience(segments_any=("7",))}),
    "countries": ("audience.countries", {"audience": Audience(countries=("DE",))}),
    "channels": ("audience.channels", {"audience": Audience(channels=("7",))}),
    "holdout": ("audience.holdout_bp", {"audience": Audience(holdout_bp=1000)}),
    "start and end": ("window", {"window": JANUARY}),
    "weekdays": ("window", {"window": Window(weekdays=("mon",))}),
    "hours": ("window", {"window": Window(from_hour=8, to_hour=10)}),
    "priority": ("stacking", {"stacking": Stacking(priority=1)}),
    "best of a group": ("stacking", {"stacking": Stacking(group="spring", in_group="best")}),
    "exclusive": ("stacking", {"stacking": Stacking(exclusive=True)}),
    "stop": ("stacking", {"stacking": Stacking(stop=True)}),
    "combines with": ("stacking", {"stacking": Stacking(combines_with=("item", "shipping"))}),
    "budget in money": ("caps", {"caps": Caps(budget=10_000)}),
    "uses": ("caps", {"caps": Caps(uses=100)}),
    "uses per user": ("caps", {"caps": Caps(uses_per_user=1)}),
    "money per order": ("caps", {"caps": Caps(per_order_money=1000)}),
    "floor price": ("caps", {"caps": Caps(floor_price=100)}),
    "smallest margin": ("caps", {"caps": Caps(min_margin_bp=1000)}),
    "provenance": ("provenance", {"provenance": Provenance(model_version="m1")}),
}
EVERYWHERE = ("currency", "mechanic.type", "audience.channels", "audience.segments_any")
MECHANICS = {
    "percent off items": PERCENT,
    "percent off the order": Offer(
        id="o9", currency="EUR", mechanic=PercentOff(bp=1000), stacking=Stacking(layer="order")
    ),
    "amount off the order": Offer(id="o9", currency="EUR", mechanic=AmountOff(amount=1000)),
    "amount off each unit": Offer(
        id="o9", currency="EUR", mechanic=AmountOff(amount=100, per="unit"), scope=TEA
    ),
    "fixed price": Offer(id="o9", currency="EUR", mechanic=FixedPrice(price=900)),
    "one threshold": TIER,
    "more tiers": Offer(
        id="o9", currency="EUR", mechanic=Tiered(tiers=(Tier(min=1, bp=1), Tier(min=2, bp=2)))
    ),
    "product bundle": BUNDLE,
    "buy and get": TWO_PLUS_ONE,
    "gift": GIFT,
    "free shipping": SHIPPING,
}


def changed(offer: Offer, changes: dict[str, Any]) -> Offer:
    """The offer with some parts replaced; a voucher keeps its channel."""
    if "audience" in changes and offer.audience.channels:
        changes = {"audience": replace(changes["audience"], channels=offer.audience.channels)}
    return replace(offer, **changes)


def table() -> str:
    """Markdown: yes, with losses, or no."""
    targets = sorted(methods("offers.export"))
    lines = ["| | " + " | ".join(targets) + " |", "|---" * (len(targets) + 1) + "|"]
    for name, offer in MECHANICS.items():
        cells = []
        for target in targets:
            found = export_offer(offer, target)
            lost = [x for x in found.losses if x.path not in EVERYWHERE]
            cells.append("no" if not found.payload else "in part" if lost else "yes")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name, (path, changes) in FEATURES.items():
        cells = []
        for target in targets:
            said = []
            for offer in BASES:
                has_units = "scope" in changes and offer is TWO_PLUS_ONE  # limits of its own
                if has_units or not export_offer(offer, target).payload:
                    continue
                found = export_offer(changed(offer, changes), target)
                is_lost = any(loss.path.startswith(path) for loss in found.losses)
                said.append(bool(found.payload) and not is_lost)
            cells.append("yes" if all(said) else "in part" if any(said) else "no")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_table_of_the_documentation_is_current() -> None:
    text = (Path(__file__).parents[2] / "docs" / "offers_export.md").read_text()
    assert table() in text
