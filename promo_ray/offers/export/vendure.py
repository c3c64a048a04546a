"""Vendure: promotions of its built-in conditions and actions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from promo_ray.offers.export.base import CannotSayError, Fields, Target, given, percent_of
from promo_ray.offers.money import FULL_BP
from promo_ray.offers.offer import Offer
from promo_ray.registry import register


@register("vendure")
class Vendure(Target):
    """Variables of the mutation `createPromotion`.

    Products are ids of product variants, tags ids of facet values, a segment the id of a customer
    group. Values of arguments are JSON texts, amounts minor units. An automatic promotion must
    have a condition; one that always holds is `minimum_order_amount` of 0.

    Source: Admin API v3, CreatePromotionInput and packages/core/src/config/promotion of
    github.com/vendure-ecommerce/vendure.
    """

    method = "vendure"
    api = "Admin API v3"
    reasons: ClassVar[Mapping[str, str]] = {
        "scope.skip_on_sale": "cannot tell items on sale",
        "scope.max_units": "holds for all units",
        "scope.exclude": "excludes nothing",
        "scope": "only some actions select items",
        "trigger.min_units": "units are counted of named products or one facet value",
        "trigger.required_scope": "the total of the order counts",
        "mechanic.max_amount": "has no largest saving",
        "mechanic.methods": "holds for all methods",
        "mechanic.max_times": "is done as often as the units allow",
        "mechanic.pick": "the cheapest units are got",
        "caps.budget": "limits no money",
        "caps.uses": "has limits over all time only",
        "caps.uses_per_user": "has limits over all time only",
        "audience.segments_any": "a condition names one customer group",
        "stacking.layer": "follows from the action",
        "stacking.priority": "is derived from conditions and actions",
        "stacking.exclusive": "has no exclusive promotions",
        "stacking": "promotions always stack",
        "window": "holds on all days and hours from start to end",
    }

    def payload(self, fields: Fields, offer: Offer) -> dict[str, Any]:
        """See `Target.payload`."""
        if fields.take("trigger.kind") == "unique_code":
            raise CannotSayError("trigger.kind", "a promotion has one code")
        conditions, actions = _rewards(fields, offer.layer)
        conditions += _conditions(fields)
        code = fields.take("trigger.code")
        if code is None and not conditions:
            conditions = [_least(0)]
        names = {"languageCode": "en", "name": fields.take("id")}
        return {
            "createPromotion": {
                "input": given(
                    enabled=True,
                    startsAt=fields.take("window.start_at"),
                    endsAt=fields.take("window.end_at"),
                    couponCode=code,
                    perCustomerUsageLimit=fields.capped("caps.uses_per_user"),
                    usageLimit=fields.capped("caps.uses"),
                )
                | {"conditions": conditions, "actions": actions}
                | {"translations": [{**names, "description": fields.take("label")}]}
            }
        }


def _operation(code: str, **arguments: Any) -> dict[str, Any]:
    """A configurable operation; texts stand as they are, other values as JSON."""
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in arguments.items()}
    return {"code": code, "arguments": [{"name": k, "value": v} for k, v in texts.items()]}


def _least(amount: int) -> dict[str, Any]:
    return _operation("minimum_order_amount", amount=amount, taxInclusive=True)


def _conditions(fields: Fields) -> list[dict[str, Any]]:
    found, scope = [], "trigger.required_scope"
    if (spend := fields.take("trigger.min_spend")) is not None:
        found.append(_least(spend))
    kinds = ("products", "tags")
    names = {} if fields.peek(scope) is None else fields.include(scope, kinds, at_most=1)
    least = fields.peek("trigger.min_units") or 1
    if products := names.get("products"):
        found.append(_operation("contains_products", minimum=least, productVariantIds=products))
        fields.take("trigger.min_units")
    elif tags := names.get("tags"):
        _one_facet(scope, tags)
        found.append(_operation("at_least_n_with_facets", minimum=least, facets=tags))
        fields.take("trigger.min_units")
    if names and spend is not None:
        fields.lose("trigger.min_spend", "the spend on the whole order counts")
    if len(fields.peek("audience.segments_any")) == 1:
        (group,) = fields.take("audience.segments_any")
        found.append(_operation("customer_group", customerGroupId=group))
    return found


def _one_facet(scope: str, tags: list[str]) -> None:
    if len(tags) > 1:
        raise CannotSayError(f"{scope}.include.tags", "an item must have all facet values")


def _rewards(fields: Fields, layer: str) -> tuple[list[Any], list[Any]]:
    """Conditions and actions of the mechanic."""
    kind = fields.kind
    if kind == "free_shipping":
        return [], [_operation("free_shipping")]
    if layer == "shipping":
        raise CannotSayError("stacking.layer", "shipping is free or not")
    if kind == "buy_get":
        return _buy_get(fields)
    if kind == "tiered":
        tier = fields.threshold()
        if not tier.is_spend or not fields.is_everything():
            raise CannotSayError("mechanic.basis", "the total of the order counts")
        return [_least(tier.least)], [_order_action(fields, layer, tier.amount, tier.bp)]
    if kind == "amount_off":
        if fields.peek("mechanic.per") == "unit":
            raise CannotSayError("mechanic.per", "amounts are off the order or off a line")
        if not fields.is_everything():
            raise CannotSayError("scope.include", "amounts are off the order or off a line")
        return [], [_order_action(fields, layer, fields.take("mechanic.amount"), None)]
    if kind != "percent_off":
        raise CannotSayError("mechanic.type", "has no action that does this")
    bp = fields.take("mechanic.bp")
    names = fields.include("scope", ("products", "tags"), at_most=1)
    if not names:
        return [], [_order_action(fields, layer, None, bp)]
    if layer == "item":
        fields.take("stacking.layer")
    percent = f"{percent_of(bp):g}"
    if products := names.get("products"):
        code = "products_percentage_discount"
        return [], [_operation(code, discount=percent, productVariantIds=products)]
    _one_facet("scope", names["tags"])
    return [], [_operation("facet_based_discount", discount=percent, facets=names["tags"])]


def _order_action(fields: Fields, layer: str, amount: int | None, bp: int | None) -> dict[str, Any]:
    if layer == "order":
        fields.take("stacking.layer")
    else:
        fields.lose("stacking.layer", "what holds for everything is taken off the order")
    if bp is not None:
        return _operation("order_percentage_discount", discount=f"{percent_of(bp):g}")
    return _operation("order_fixed_discount", discount=amount)


def _buy_get(fields: Fields) -> tuple[list[Any], list[Any]]:
    if fields.take("mechanic.bp") != FULL_BP:
        raise CannotSayError("mechanic.bp", "what is got is free")
    if fields.peek("mechanic.pick") == "cheapest":
        fields.take("mechanic.pick")
    arguments: dict[str, Any] = {}
    for side, letter in (("buy", "X"), ("get", "Y")):
        scope = f"mechanic.{side}.scope"
        names = fields.include(scope, ("products",))
        if not names:
            raise CannotSayError(scope, "products must be named")
        arguments[f"amount{letter}"] = fields.take(f"mechanic.{side}.quantity")
        arguments[f"variantIds{letter}"] = names["products"]
    return [_operation("buy_x_get_y_free", **arguments)], [_operation("buy_x_get_y_free")]
