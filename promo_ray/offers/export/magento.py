"""Magento (Adobe Commerce): cart price rules, with a coupon where needed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from promo_ray.offers.export.base import CannotSayError, Fields, Target, given, percent_of
from promo_ray.offers.money import FULL_BP
from promo_ray.offers.offer import Offer
from promo_ray.registry import register

_MODEL = "Magento\\SalesRule\\Model\\Rule\\Condition"
_ATTRIBUTES = {"products": "sku", "categories": "category_ids"}
_SELECTORS = tuple(_ATTRIBUTES)
# what a rule is for where the offer names none: its number, and what it is called
_DEFAULTS = {
    "audience.channels": ([1], "the rule is for website 1 only"),
    # of a fresh shop: not logged in, general, wholesale, retailer
    "audience.segments_any": ([0, 1, 2, 3], "the rule is for customer groups 0 to 3 only"),
}


@register("magento")
class Magento(Target):
    r"""Bodies of `POST /V1/salesRules` and `/V1/coupons`.

    A product is a SKU, a category the id of a category, a channel the number of a website, a
    segment the number of a customer group. A rule must list its websites and groups: without
    channels it is for website 1, without segments for the four groups of a fresh shop, and both
    are losses. The `rule_id` that the coupon needs comes with the answer to the rule. Days are
    days of the store; amounts are numbers in currency units.

    Source: REST API of 2.4, Magento\SalesRule\Api\Data: RuleInterface, ConditionInterface and
    CouponInterface, github.com/magento/magento2.
    """

    method = "magento"
    api = "REST API 2.4"
    reasons: ClassVar[Mapping[str, str]] = {
        "scope.skip_on_sale": "cannot tell items on sale",
        "scope.max_units": "limits units of each line, not of the order",
        "scope": "selects by SKU and category",
        "trigger.spend_basis": "no spend is asked for",
        "mechanic.max_amount": "has no largest saving",
        "mechanic.methods": "holds for all methods",
        "mechanic.max_times": "limits units of each line, not of the order",
        "mechanic.pick": "what is got is the same product",
        "audience.members_only": "customer groups have numbers",
        "caps.uses": "only coupons have a limit of all uses",
        "stacking.layer": "follows from the action",
        "stacking.priority": "sort orders are not negative",
        "stacking.combines_with": "rules combine until one stops the others",
        "window.weekdays": "holds on all days",
        "window.from_hour": "holds at all hours",
        "window.to_hour": "holds at all hours",
        "window.timezone": "days are those of the store",
    }

    def payload(self, fields: Fields, offer: Offer) -> dict[str, Any]:
        """See `Target.payload`."""
        trigger, action = fields.take("trigger.kind"), _action(fields, offer.layer)
        order = fields.peek("stacking.priority")
        rule = given(
            name=fields.take("id"),
            description=fields.take("label") or None,
            website_ids=_numbers(fields, "audience.channels"),
            customer_group_ids=_numbers(fields, "audience.segments_any"),
            from_date=_day(fields, "window.start_at"),
            to_date=_day(fields, "window.end_at", is_end=True),
            uses_per_customer=fields.capped("caps.uses_per_user") or 0,
            is_active=True,
            condition=_combine("Combine", "all", _conditions(fields)),
            action_condition=_combine("Product\\Combine", "all", _items(fields, "scope")),
            stop_rules_processing=fields.take("stacking.stop"),
            is_advanced=True,
            sort_order=fields.take("stacking.priority") if order >= 0 else 0,
            **action,
            apply_to_shipping=False,
            coupon_type="NO_COUPON" if trigger == "automatic" else "SPECIFIC_COUPON",
            use_auto_generation=trigger == "unique_code",
        )
        payload = {"salesRules": {"rule": rule}}
        if (code := fields.take("trigger.code")) is not None:
            coupon = given(code=code, usage_limit=fields.capped("caps.uses"), is_primary=True)
            payload["coupons"] = {"coupon": coupon}
        return payload


def _numbers(fields: Fields, path: str) -> list[int]:
    names = fields.take(path)
    if names and all(name.isdecimal() and str(int(name)) == name for name in names):
        return [int(name) for name in names]
    default, reason = _DEFAULTS[path]
    fields.lose(path, f"{reason}; others must be named by number")
    return default


def _day(fields: Fields, path: str, is_end: bool = False) -> str | None:
    """Day of an instant; a window ends with the last day, which the day itself is part of."""
    text = fields.take(path)
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    if at.replace(hour=0, minute=0, second=0, microsecond=0) != at:
        fields.lose(path, "rules start and end with a day")
    return (at - timedelta(microseconds=int(is_end))).date().isoformat()


def _condition(kind: str, attribute: str, operator: str, value: Any, **more: Any) -> dict[str, Any]:
    return {
        "condition_type": f"{_MODEL}\\{kind}",
        "attribute_name": attribute,
        "operator": operator,
        "value": str(value),
        **more,
    }


def _combine(kind: str, aggregator: str, conditions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "condition_type": f"{_MODEL}\\{kind}",
        "aggregator_type": aggregator,
        "value": "1",
        "conditions": conditions,
    }


def _items(fields: Fields, scope: str) -> list[dict[str, Any]]:
    """Conditions that an item of a scope meets, all of them."""
    found = []
    include = fields.include(scope, _SELECTORS)
    wanted = [_one_of(fields, f"{scope}.include.{kind}", kind, "()") for kind in include]
    some = [condition for condition in wanted if condition]
    if include and not some:
        raise CannotSayError(f"{scope}.include", "lists are split by commas")
    found += some if len(some) < 2 else [_combine("Product\\Combine", "any", some)]
    for kind in _SELECTORS:
        path = f"{scope}.exclude.{kind}"
        if fields.peek(path) and (condition := _one_of(fields, path, kind, "!()")):
            found.append(condition)
    return found


def _one_of(fields: Fields, path: str, kind: str, operator: str) -> dict[str, Any] | None:
    names = fields.take(path)
    if any("," in name for name in names):
        fields.lose(path, "lists are split by commas")
        return None
    return _condition("Product", _ATTRIBUTES[kind], operator, ",".join(names))


def _least(fields: Fields, scope: str | None, is_spend: bool, least: Any) -> dict[str, Any]:
    """Condition on spend or units, of a scope or of the whole cart."""
    if is_spend:
        fields.counts_list_prices()
    inside = [] if scope is None else _items(fields, scope)
    if not inside:
        return _condition("Address", "base_subtotal" if is_spend else "total_qty", ">=", least)
    attribute = "base_row_total" if is_spend else "qty"
    more = {"aggregator_type": "all", "conditions": inside}
    return _condition("Product\\Subselect", attribute, ">=", least, **more)


def _conditions(fields: Fields) -> list[dict[str, Any]]:
    found = []
    if fields.kind == "tiered":
        tier = fields.threshold()
        least: Any = fields.money("mechanic.tiers[0].min") if tier.is_spend else tier.least
        found.append(_least(fields, "scope", tier.is_spend, least))
    required = "trigger.required_scope"
    scope = None if fields.peek(required) is None else required
    spend, units = fields.money("trigger.min_spend"), fields.take("trigger.min_units")
    if spend is not None:
        found.append(_least(fields, scope, True, spend))
    if units is not None or (scope and spend is None):
        found.append(_least(fields, scope, False, units or 1))
    if countries := fields.take("audience.countries"):
        some = [_condition("Address", "country_id", "==", name) for name in countries]
        found.append(_combine("Combine", "any", some))
    return found


def _action(fields: Fields, layer: str) -> dict[str, Any]:
    """What the rule does."""
    kind = fields.kind
    if kind == "free_shipping":
        free = {"simple_action": "by_percent", "discount_amount": 0}
        return {**free, "simple_free_shipping": "FREE_WITH_MATCHING_ITEMS"}
    if layer == "shipping":
        raise CannotSayError("stacking.layer", "shipping is free or discounted with the items")
    if kind == "buy_get":
        return _buy_get(fields)
    if kind == "percent_off":
        if layer == "item":
            fields.take("stacking.layer")
        percent = percent_of(fields.take("mechanic.bp"))
        return {"simple_action": "by_percent", "discount_amount": percent}
    if kind == "tiered":
        tier = fields.threshold()
        if tier.bp is not None:
            return {"simple_action": "by_percent", "discount_amount": percent_of(tier.bp)}
        return _whole(fields, layer, "mechanic.tiers[0].amount")
    if kind != "amount_off":
        raise CannotSayError("mechanic.type", "has no action that does this")
    if fields.take("mechanic.per") == "order":
        return _whole(fields, layer, "mechanic.amount")
    if layer == "item":
        fields.take("stacking.layer")
    else:
        fields.lose("stacking.layer", "amounts off every unit are off the items")
    return {
        "simple_action": "by_fixed",
        "discount_amount": float(fields.money("mechanic.amount") or 0),
    }


def _whole(fields: Fields, layer: str, path: str) -> dict[str, Any]:
    if layer == "order":
        fields.take("stacking.layer")
    return {"simple_action": "cart_fixed", "discount_amount": float(fields.money(path) or 0)}


def _buy_get(fields: Fields) -> dict[str, Any]:
    if fields.take("mechanic.bp") != FULL_BP:
        raise CannotSayError("mechanic.bp", "what is got is free")
    if fields.peek("mechanic.buy.scope") != fields.peek("mechanic.get.scope"):
        raise CannotSayError("mechanic.get.scope", "what is got is the product that is bought")
    if not (fields.is_everything("mechanic.buy.scope") or fields.is_everything()):
        raise CannotSayError("scope.include", "name the products in the slots or in the scope")
    fields.lose("mechanic.pick", "what is got is the same product")
    return {
        "simple_action": "buy_x_get_y",
        "discount_step": fields.take("mechanic.buy.quantity"),
        "discount_amount": fields.take("mechanic.get.quantity"),
    }
