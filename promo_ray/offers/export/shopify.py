"""Shopify: native discounts, automatic or with a code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from promo_ray.offers.export.base import CannotSayError, Fields, Target, given, share_of
from promo_ray.offers.offer import Offer
from promo_ray.registry import register

# argument of the mutation with a code, and of the automatic one
_ARGUMENTS = {
    "Basic": ("basicCodeDiscount", "automaticBasicDiscount"),
    "Bxgy": ("bxgyCodeDiscount", "automaticBxgyDiscount"),
    "FreeShipping": ("freeShippingCodeDiscount", "freeShippingAutomaticDiscount"),
}
_FOREVER = "1970-01-01T00:00:00Z"  # a discount must have a start


@register("shopify")
class Shopify(Target):
    """Variables of `discountAutomatic...Create` or `discountCode...Create`.

    Products, categories (collections) and segments (customer segments) are global ids of Shopify.
    Shares are fractions, amounts decimal texts. Customers see the title of an automatic discount,
    so a label comes before the id there. An offer without a start starts in 1970.

    Source: GraphQL Admin API 2025-10, DiscountAutomaticBasicInput, DiscountAutomaticBxgyInput,
    DiscountAutomaticFreeShippingInput and their DiscountCode forms, shopify.dev.
    """

    method = "shopify"
    api = "GraphQL Admin API 2025-10"
    reasons: ClassVar[Mapping[str, str]] = {
        "id": "the title shows the label",
        "scope.skip_on_sale": "cannot tell items on sale",
        "scope.max_units": "holds for all units",
        "scope.exclude": "excludes nothing",
        "scope": "what is bought and got has items of its own",
        "trigger.min_spend": "has one requirement, on what gets cheaper",
        "trigger.min_units": "has one requirement, of spend or of quantity",
        "trigger.required_scope": "the requirement holds for what gets cheaper",
        "mechanic.max_amount": "has no largest saving",
        "mechanic.methods": "holds for all methods",
        "mechanic.pick": "the cheapest units are got",
        "caps.min_margin_bp": "knows no margins: needs a function",
        "caps.uses": "only codes have limits",
        "caps.uses_per_user": "only codes have limits, of one use for a customer",
        "audience.holdout_bp": "holds nobody out: needs a function",
        "audience.countries": "only free shipping knows countries",
        "audience.channels": "holds on all channels",
        "stacking": "the best combination holds",
        "window": "holds on all days and hours from start to end",
    }

    def payload(self, fields: Fields, offer: Offer) -> dict[str, Any]:
        """See `Target.payload`."""
        if fields.take("trigger.kind") == "unique_code":
            raise CannotSayError("trigger.kind", "a code must be named; more are added later")
        kind = fields.kind
        code = fields.take("trigger.code")
        if kind == "free_shipping":
            form, body = "FreeShipping", _free_shipping(fields)
        elif offer.layer == "shipping":
            raise CannotSayError("stacking.layer", "shipping is free or not")
        elif kind == "buy_get":
            form, body = "Bxgy", _buy_get(fields, is_coded=code is not None)
        else:
            form, body = "Basic", _basic(fields, kind, offer.layer)
        is_automatic = code is None
        more = {} if is_automatic else _coded(fields, code)
        discount = given(**_head(fields), **more, **body)
        way = "Automatic" if is_automatic else "Code"
        return {f"discount{way}{form}Create": {_ARGUMENTS[form][is_automatic]: discount}}


def _head(fields: Fields) -> dict[str, Any]:
    segments = fields.take("audience.segments_any")
    layers = fields.take("stacking.combines_with")
    return {
        "title": fields.take("label") or fields.take("id"),
        "startsAt": fields.take("window.start_at", _FOREVER),
        "endsAt": fields.take("window.end_at"),
        "context": {"customerSegments": {"add": segments}} if segments else {"all": "ALL"},
        "combinesWith": {
            "productDiscounts": "item" in layers,
            "orderDiscounts": "order" in layers,
            "shippingDiscounts": "shipping" in layers,
        },
    }


def _coded(fields: Fields, code: str) -> dict[str, Any]:
    is_once = fields.peek("caps.uses_per_user") == 1
    once = True if is_once and fields.capped("caps.uses_per_user") else None
    return {
        "code": code,
        "usageLimit": fields.capped("caps.uses"),
        "appliesOncePerCustomer": once,
    }


def _items(fields: Fields, scope: str) -> dict[str, Any]:
    names = fields.include(scope, ("products", "categories"), at_most=1)
    if products := names.get("products"):
        return {"products": {"productsToAdd": products}}
    if categories := names.get("categories"):
        return {"collections": {"add": categories}}
    return {"all": True}


def _requirement(fields: Fields) -> dict[str, Any] | None:
    """Smallest subtotal or quantity, which Shopify counts over the items that get cheaper."""
    scope = fields.peek("trigger.required_scope")
    if scope == fields.peek("scope") and not fields.is_everything():
        fields.take("trigger.required_scope")
    elif not fields.is_everything():
        for name in ("min_spend", "min_units"):
            if fields.peek(f"trigger.{name}") is not None:
                fields.lose(f"trigger.{name}", "is counted over what gets cheaper")
    least = fields.peek("trigger.min_spend")
    if least is not None:
        return _subtotal(fields.money("trigger.min_spend"))
    if (units := fields.take("trigger.min_units")) is not None:
        return _quantity(units)
    return None


def _subtotal(amount: str | None) -> dict[str, Any]:
    return {"subtotal": {"greaterThanOrEqualToSubtotal": amount}}


def _quantity(units: int) -> dict[str, Any]:
    return {"quantity": {"greaterThanOrEqualToQuantity": str(units)}}


def _free_shipping(fields: Fields) -> dict[str, Any]:
    countries = fields.take("audience.countries")
    return {
        "destination": {"countries": {"add": countries}} if countries else {"all": True},
        "minimumRequirement": _requirement(fields),
    }


def _buy_get(fields: Fields, is_coded: bool) -> dict[str, Any]:
    for side in ("buy", "get"):
        if fields.is_everything(f"mechanic.{side}.scope"):
            raise CannotSayError(f"mechanic.{side}.scope", "items must be named")
    if fields.peek("mechanic.pick") == "cheapest":
        fields.take("mechanic.pick")
    times = fields.take("mechanic.max_times")
    effect = {"percentage": share_of(fields.take("mechanic.bp"))}
    got = {"quantity": str(fields.take("mechanic.get.quantity")), "effect": effect}
    bought = str(fields.take("mechanic.buy.quantity"))
    return {
        "customerBuys": {
            "items": _items(fields, "mechanic.buy.scope"),
            "value": {"quantity": bought},
        },
        "customerGets": {
            "items": _items(fields, "mechanic.get.scope"),
            "value": {"discountOnQuantity": got},
        },
        "usesPerOrderLimit": times if is_coded or times is None else str(times),
    }


def _basic(fields: Fields, kind: str, layer: str) -> dict[str, Any]:
    if kind not in ("percent_off", "amount_off", "tiered"):
        raise CannotSayError("mechanic.type", "needs a function")
    requirement = None if kind == "tiered" else _requirement(fields)
    if kind == "percent_off":
        value: dict[str, Any] = {"percentage": share_of(fields.take("mechanic.bp"))}
    elif kind == "amount_off":
        is_each = fields.take("mechanic.per") == "unit"
        value = _amount(fields.money("mechanic.amount"), is_each)
    else:
        tier = fields.threshold()
        least = fields.money("mechanic.tiers[0].min")
        requirement = _subtotal(least) if tier.is_spend else _quantity(tier.least)
        if tier.bp is None:
            value = _amount(fields.money("mechanic.tiers[0].amount"), False)
        else:
            value = {"percentage": share_of(tier.bp)}
    items = _items(fields, "scope")
    if layer == ("order" if "all" in items else "item"):
        fields.take("stacking.layer")
    else:
        fields.lose("stacking.layer", "follows from the items: all of them are the order")
    gets = {"items": items, "value": value}
    return {"customerGets": gets, "minimumRequirement": requirement}


def _amount(amount: str | None, is_each: bool) -> dict[str, Any]:
    return {"discountAmount": {"amount": amount, "appliesOnEachItem": is_each}}
