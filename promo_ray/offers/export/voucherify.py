"""Voucherify: promotion tiers, discount campaigns and vouchers, with a validation rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from promo_ray.offers.export.base import (
    CannotSayError,
    Fields,
    Target,
    decimal_of,
    given,
    leaves,
    percent_of,
)
from promo_ray.offers.fields import to_plain
from promo_ray.offers.offer import Offer
from promo_ray.offers.terms import WEEKDAYS
from promo_ray.registry import register

_OBJECTS = {"products": "product", "categories": "products_collection"}
_SELECTORS = tuple(_OBJECTS)
_NOTES = ("version", "contact_cost", "provenance")  # what changes no price


@register("voucherify")
class Voucherify(Target):
    """Bodies of `POST /v1/validation-rules` and of `/v1/campaigns` or `/v1/vouchers/{code}`.

    An automatic offer is a campaign of one promotion tier, a shared code a voucher, unique codes
    a campaign of discount coupons. The validation rule is made first and then assigned to it.
    Products and categories (product collections) and segments are ids of Voucherify. Amounts are
    hundredths of a currency unit whatever the currency. What changes no price goes to `metadata`.

    Source: REST API v2018-08-01, Create Campaign, Create Voucher, Validation Rule Object and
    Discount effects, docs.voucherify.io.
    """

    method = "voucherify"
    api = "REST API v2018-08-01"
    reasons: ClassVar[Mapping[str, str]] = {
        "scope.skip_on_sale": "cannot tell items on sale",
        "scope.max_units": "limits units of products, not the cheapest ones",
        "scope": "the reward is for the order",
        "trigger.min_units": "needs a rule on named products",
        "trigger.required_scope": "the amount of the order counts",
        "trigger.spend_basis": "no spend is asked for",
        "mechanic.unit_cost": "knows no costs",
        "mechanic.choice_of": "gives one product",
        "caps.budget": "the name of the rule is not public; set it in the dashboard",
        "caps.uses": "the names of rules by day are not public; set them in the dashboard",
        "caps.uses_per_user": "the names of rules by day are not public",
        "caps.period": "the names of rules by day are not public",
        "stacking.priority": "only promotion tiers have a hierarchy, from 1",
        "stacking": "is a setting of the project",
        "window.timezone": "hours are those of the project",
        "window": "hours over midnight are two spans",
    }

    def payload(self, fields: Fields, offer: Offer) -> dict[str, Any]:
        """See `Target.payload`."""
        trigger = fields.take("trigger.kind")
        code, name = fields.take("trigger.code"), fields.take("id")
        discount = _discount(fields, offer.layer)
        rule = _validation(fields, is_campaign=code is None)
        common = given(
            start_date=fields.take("window.start_at"),
            expiration_date=fields.take("window.end_at"),
            metadata=_notes(fields, offer) or None,
            **_hours(fields),
        )
        label = fields.take("label") or None
        payload: dict[str, Any] = {}
        if rule:
            payload["validation-rules"] = {"name": name, "type": "basic", **rule}
        if code is not None:
            redemption = {"quantity": fields.capped("caps.uses")}
            payload["vouchers"] = given(
                code=code,
                type="DISCOUNT_VOUCHER",
                discount=discount,
                additional_info=label,
                redemption=redemption if redemption["quantity"] else None,
                **common,
            )
            # the name of the voucher is its code
            if not rule:
                fields.lose("id", "a voucher has its code for a name")
            return payload
        if trigger == "unique_code":
            voucher = {"type": "DISCOUNT_VOUCHER", "discount": discount}
            kind = {"campaign_type": "DISCOUNT_COUPONS", "type": "AUTO_UPDATE"}
            payload["campaigns"] = {**given(name=name, description=label), **kind, **common}
            payload["campaigns"]["voucher"] = voucher
            return payload
        priority = fields.peek("stacking.priority")
        tier = given(
            name=name,
            banner=label,
            action={"discount": discount},
            hierarchy=fields.take("stacking.priority") if priority > 0 else None,
        )
        promotion = {"campaign_type": "PROMOTION", "promotion": {"tiers": [tier]}}
        payload["campaigns"] = {"name": name, **promotion, **common}
        return payload


def _hundredths(fields: Fields, path: str) -> int | None:
    amount, currency = fields.take(path), fields.peek("currency")
    if amount is None:
        return None
    value = float(decimal_of(amount, currency)) * 100
    if value != int(value):
        raise CannotSayError(path, "amounts are hundredths of a currency unit")
    return int(value)


def _discount(fields: Fields, layer: str) -> dict[str, Any]:
    kind = fields.kind
    if kind == "gift":
        unit = {
            "unit_off": fields.take("mechanic.quantity"),
            "unit_type": fields.take("mechanic.sku"),
        }
        return {"type": "UNIT", **unit, "effect": "ADD_NEW_ITEMS"}
    if layer == "shipping":
        raise CannotSayError("stacking.layer", "shipping is an item of the shop's own")
    is_order = fields.is_everything() and not fields.peek("scope.exclude.products")
    is_order = is_order and not fields.peek("scope.exclude.categories")
    discount = _money_discount(fields, kind, is_order)
    if layer == ("order" if discount["effect"] == "APPLY_TO_ORDER" else "item"):
        fields.take("stacking.layer")
    else:
        fields.lose("stacking.layer", "follows from the effect")
    return discount


def _money_discount(fields: Fields, kind: str, is_order: bool) -> dict[str, Any]:
    effect = "APPLY_TO_ORDER" if is_order else "APPLY_TO_ITEMS"
    if kind == "percent_off":
        return _percent(fields, fields.take("mechanic.bp"), effect)
    if kind == "amount_off":
        is_each = fields.take("mechanic.per") == "unit"
        amount = _hundredths(fields, "mechanic.amount")
        if is_each:
            effect = "APPLY_TO_ITEMS"
        elif not is_order:
            effect = "APPLY_TO_ITEMS_PROPORTIONALLY"
        return {"type": "AMOUNT", "amount_off": amount, "effect": effect}
    if kind == "fixed_price":
        price = _hundredths(fields, "mechanic.price")
        return {"type": "FIXED", "fixed_amount": price, "effect": "APPLY_TO_ITEMS"}
    if kind != "tiered":
        raise CannotSayError("mechanic.type", "has no such discount")
    tier = fields.threshold()
    if not tier.is_spend or not is_order:
        raise CannotSayError("mechanic.basis", "the amount of the order counts")
    if tier.bp is not None:
        return _percent(fields, tier.bp, effect)
    amount = _hundredths(fields, "mechanic.tiers[0].amount")
    return {"type": "AMOUNT", "amount_off": amount, "effect": effect}


def _percent(fields: Fields, bp: int, effect: str) -> dict[str, Any]:
    """A percentage with its largest saving: that of the mechanic, or else the cap per order."""
    path = "mechanic.max_amount"
    path = path if fields.peek(path) is not None else "caps.per_order_money"
    limit = "amount_limit" if effect == "APPLY_TO_ORDER" else "aggregated_amount_limit"
    value = {"type": "PERCENT", "percent_off": percent_of(bp), limit: _hundredths(fields, path)}
    return given(**value, effect=effect)


def _validation(fields: Fields, is_campaign: bool) -> dict[str, Any]:
    """Rules and items of the validation rule; empty if it would rule out nothing."""
    tests: list[tuple[str, str, Any]] = []
    if fields.kind == "tiered":
        least = _hundredths(fields, "mechanic.tiers[0].min")
        tests.append(("order.amount", "$more_than_or_equal", [least]))
    if (spend := _hundredths(fields, "trigger.min_spend")) is not None:
        tests.append(("order.amount", "$more_than_or_equal", [spend]))
    if tests:
        fields.counts_list_prices()
    if segments := fields.take("audience.segments_any"):
        tests.append(("customer.segment", "$is", segments))
    if segments := fields.take("audience.segments_none"):
        tests.append(("customer.segment", "$is_not", segments))
    tests += _limits(fields, is_campaign)
    rules: dict[str, Any] = {
        str(i): {"name": name, "property": None, "conditions": {test: values}, "rules": {}}
        for i, (name, test, values) in enumerate(tests, 1)
    }
    rules |= {"logic": " and ".join(rules)} if rules else {}
    include, exclude = fields.include("scope", _SELECTORS), {}
    for kind in _SELECTORS:
        exclude[kind] = fields.take(f"scope.exclude.{kind}")
    items = {
        "included": _listed(include),
        "excluded": _listed(exclude),
        "included_all": not include,
    }
    is_some = items["included"] or items["excluded"]
    return {**({"rules": rules} if rules else {}), **({"applicable_to": items} if is_some else {})}


def _listed(names: dict[str, list[str]]) -> list[dict[str, str]]:
    return [{"object": _OBJECTS[kind], "id": n} for kind, ids in names.items() for n in ids]


def _limits(fields: Fields, is_campaign: bool) -> list[tuple[str, str, Any]]:
    found = []
    if is_campaign and (uses := fields.capped("caps.uses")) is not None:
        found.append(("campaign.redemptions.count", uses))
    if (uses := fields.capped("caps.uses_per_user")) is not None:
        found.append(("redemption.count.per_customer", uses))
    return [(name, "$less_than_or_equal", [limit]) for name, limit in found]


def _hours(fields: Fields) -> dict[str, Any]:
    days = fields.take("window.weekdays")
    numbers = [(WEEKDAYS.index(day) + 1) % 7 for day in days]  # 0 = Sunday
    start, end = fields.peek("window.from_hour"), fields.peek("window.to_hour")
    if (start, end) == (0, 24):
        return {"validity_day_of_week": numbers}
    if start > end:
        return {"validity_day_of_week": numbers}
    fields.take("window.from_hour")
    fields.take("window.to_hour")
    if end == 24:
        fields.lose("window.to_hour", "ends a minute early, at 23:59")
    span = {
        "start_time": f"{start:02d}:00",
        "expiration_time": "23:59" if end == 24 else f"{end:02d}:00",
    }
    every = {**span, "days_of_week": numbers or list(range(7))}
    return {"validity_hours": {"daily": [every]}}


def _notes(fields: Fields, offer: Offer) -> dict[str, Any]:
    paths = [path for path, _ in leaves(to_plain(offer)) if path.split(".")[0] in _NOTES]
    return {path: fields.take(path) for path in paths}
