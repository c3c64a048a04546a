"""Saleor: promotions for automatic offers, vouchers for those with a code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from promo_ray.offers.export.base import CannotSayError, Fields, Target, given, percent_of
from promo_ray.offers.offer import Offer
from promo_ray.registry import register

_PREDICATES = {"products": "productPredicate", "categories": "categoryPredicate"}
_SELECTORS = tuple(_PREDICATES)


@register("saleor")
class Saleor(Target):
    """Variables of `promotionCreate`, or of `voucherCreate` and `voucherChannelListingUpdate`.

    Products, categories, channels and gifts (variants) are ids of Saleor. The id of the voucher
    that the second mutation needs comes with the answer of the first. Codes of a unique code are
    added with `voucherUpdate`.

    Source: GraphQL API 3.21, PromotionCreateInput, PromotionRuleInput (order rules are a feature
    preview), VoucherInput and VoucherChannelListingAddInput, docs.saleor.io.
    """

    method = "saleor"
    api = "GraphQL API 3.21"
    reasons: ClassVar[Mapping[str, str]] = {
        "scope.skip_on_sale": "cannot tell items on sale",
        "scope.max_units": "only a voucher can hold for one unit, and for no other number",
        "scope.exclude": "excludes nothing",
        "scope": "the total of the order counts",
        "trigger.min_spend": "promotions on the catalogue need no spend",
        "trigger.min_units": "only vouchers need units",
        "trigger.required_scope": "the total of the order counts",
        "mechanic.max_amount": "has no largest saving",
        "mechanic.methods": "holds for all methods",
        "mechanic.unit_cost": "knows no costs",
        "mechanic.quantity": "gives one unit",
        "caps.uses": "only vouchers have limits",
        "caps.uses_per_user": "only vouchers have limits, of one use for a customer",
        "audience.countries": "only vouchers for shipping know countries",
        "stacking": "the best promotion holds, vouchers come on top",
        "window": "holds on all days and hours from start to end",
    }

    def payload(self, fields: Fields, offer: Offer) -> dict[str, Any]:
        """See `Target.payload`."""
        if fields.take("trigger.kind") != "automatic":
            return _voucher(fields, offer.layer)
        rule = _rule(fields, offer.layer)
        channels = fields.take("audience.channels")
        if not channels:
            fields.lose("audience.channels", "a rule holds only in the channels that it names")
        rule |= given(name=fields.take("label") or None, channels=channels)
        is_catalogue = "cataloguePredicate" in rule
        return {
            "promotionCreate": {
                "input": given(
                    name=fields.take("id"),
                    type="CATALOGUE" if is_catalogue else "ORDER",
                    startDate=fields.take("window.start_at"),
                    endDate=fields.take("window.end_at"),
                    rules=[rule],
                )
            }
        }


def _rule(fields: Fields, layer: str) -> dict[str, Any]:
    """One rule of a promotion."""
    kind = fields.kind
    if kind == "gift":
        gifts = [fields.take("mechanic.sku"), *fields.take("mechanic.choice_of")]
        return {"orderPredicate": _spend(fields), "rewardType": "GIFT", "gifts": gifts}
    if layer == "shipping":
        raise CannotSayError("stacking.layer", "only vouchers take something off shipping")
    value, is_each = _value(fields, kind)
    reward = {"rewardValueType": value[0], "rewardValue": value[1]}
    if fields.is_everything() and not is_each:
        if layer == "order":
            fields.take("stacking.layer")
        else:
            fields.lose("stacking.layer", "what holds for everything is taken off the order")
        predicate, kind = _spend(fields), "SUBTOTAL_DISCOUNT"
        return {"orderPredicate": predicate, **reward, "rewardType": kind}
    if fields.is_everything() or (value[0] == "FIXED" and not is_each):
        raise CannotSayError("scope.include", "amounts are off the order or off named products")
    if fields.peek("mechanic.tiers") is not None:
        raise CannotSayError("scope.include", "promotions on the catalogue need no spend")
    if layer == "item":
        fields.take("stacking.layer")
    else:
        fields.lose("stacking.layer", "what holds for some products is taken off these")
    include = fields.include("scope", _SELECTORS)
    parts = [{_PREDICATES[name]: {"ids": ids}} for name, ids in include.items()]
    return {"cataloguePredicate": parts[0] if len(parts) == 1 else {"OR": parts}, **reward}


def _spend(fields: Fields) -> dict[str, Any]:
    """Predicate of the smallest subtotal; 0 of every order."""
    least = fields.money("trigger.min_spend")
    if fields.kind == "tiered":
        if not fields.threshold().is_spend:
            raise CannotSayError("mechanic.basis", "promotions count no units")
        if least is not None:
            fields.lose("trigger.min_spend", "the tier has a spend of its own")
        least = fields.money("mechanic.tiers[0].min")
    return {"discountedObjectPredicate": {"baseSubtotalPrice": {"range": {"gte": least or "0"}}}}


def _value(fields: Fields, kind: str) -> tuple[tuple[str, str], bool]:
    """Type and value of the reward, and whether it is for each unit."""
    if kind == "percent_off":
        return ("PERCENTAGE", f"{percent_of(fields.take('mechanic.bp')):g}"), False
    if kind == "free_shipping":
        return ("PERCENTAGE", "100"), False
    if kind == "tiered":
        tier = fields.threshold()
        if tier.bp is not None:
            return ("PERCENTAGE", f"{percent_of(tier.bp):g}"), False
        return ("FIXED", fields.money("mechanic.tiers[0].amount") or ""), False
    if kind != "amount_off":
        raise CannotSayError("mechanic.type", "takes percentages and fixed amounts off")
    is_each = fields.take("mechanic.per") == "unit"
    return ("FIXED", fields.money("mechanic.amount") or ""), is_each


def _voucher(fields: Fields, layer: str) -> dict[str, Any]:
    kind, channels = fields.kind, fields.take("audience.channels")
    if not channels:
        raise CannotSayError("audience.channels", "the value of a voucher is kept by channel")
    value, is_each = _value(fields, kind)
    include = fields.include("scope", _SELECTORS)
    if layer != "shipping" and (is_each != bool(include)) and value[0] == "FIXED":
        raise CannotSayError("mechanic.per", "amounts are off the order or off named products")
    if kind == "tiered" and (include or not fields.threshold().is_spend):
        raise CannotSayError("mechanic.basis", "the total of the order counts")
    least = fields.money("mechanic.tiers[0].min" if kind == "tiered" else "trigger.min_spend")
    is_shipping, is_single = layer == "shipping", fields.peek("scope.max_units") == 1
    named = "SPECIFIC_PRODUCT" if include else "ENTIRE_ORDER"
    if is_shipping or layer == ("item" if include else "order"):
        fields.take("stacking.layer")
    else:
        fields.lose("stacking.layer", "follows from what the voucher holds for")
    code = fields.take("trigger.code")
    is_once = fields.peek("caps.uses_per_user") == 1
    voucher = given(
        type="SHIPPING" if is_shipping else named,
        name=fields.take("id"),
        addCodes=None if code is None else [code],
        singleUse=True if code is None else None,
        startDate=fields.take("window.start_at"),
        endDate=fields.take("window.end_at"),
        discountValueType=value[0],
        products=include.get("products"),
        categories=include.get("categories"),
        minCheckoutItemsQuantity=fields.take("trigger.min_units"),
        countries=fields.take("audience.countries") if is_shipping else None,
        applyOncePerOrder=True if is_single and fields.take("scope.max_units") else None,
        applyOncePerCustomer=True if is_once and fields.capped("caps.uses_per_user") else None,
        usageLimit=fields.capped("caps.uses"),
    )
    listing = [
        given(channelId=name, discountValue=value[1], minAmountSpent=least) for name in channels
    ]
    return {
        "voucherCreate": {"input": voucher},
        "voucherChannelListingUpdate": {"input": {"addChannels": listing}},
    }
