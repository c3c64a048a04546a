"""Medusa: promotions, each with a campaign of its own, written and read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from promo_ray.errors import DataError
from promo_ray.offers.export.base import (
    SAME_EFFECT,
    CannotSayError,
    Fields,
    Imported,
    Source,
    Target,
    given,
    percent_of,
)
from promo_ray.offers.export.medusa_read import (
    ANY_NUMBER,
    AUDIENCE,
    BUDGETS,
    HEAD,
    ITEMS,
    SPEND,
    read_layer,
    read_promotion,
)
from promo_ray.offers.money import FULL_BP
from promo_ray.offers.offer import Offer
from promo_ray.registry import register


@register("medusa")
class Medusa(Target, Source):
    """Body of `POST /admin/promotions`, with the campaign that holds dates and budget.

    Products, categories, tags, segments and channels are ids of Medusa. Amounts are numbers in
    currency units. A campaign has one budget: the first cap of budget, uses, uses per user and
    money per user that is set; with a code, uses become the `limit` of the promotion.

    Source: Admin API v2 (2.13), validators of packages/medusa/src/api/admin/promotions and
    .../campaigns, github.com/medusajs/medusa; rule attributes of rule-attributes-map.ts there.
    """

    method = "medusa"
    api = "Admin API v2 (2.13)"
    reasons: ClassVar[Mapping[str, str]] = {
        "scope.max_units": "an amount is spread over all units",
        "scope.skip_on_sale": "cannot tell items on sale",
        "scope.exclude": "excludes nothing",
        "scope": "has no such rule for this mechanic",
        "trigger.min_units": "has no smallest number of units",
        "trigger.required_scope": "the total of all items counts",
        "trigger.spend_basis": "totals are after discounts",
        "mechanic.max_amount": "has no largest saving",
        "mechanic.methods": "has no such rule",
        "caps": "a campaign has one budget, over all time",
        "caps.floor_price": "has no floor under the price",
        "caps.min_margin_bp": "knows no margins",
        "caps.per_order_money": "limits no money per order",
        "caps.period": "has no caps by day or week",
        "stacking": "has no order of promotions and no rules between them",
        "window": "holds on all days and hours from start to end",
    }

    def payload(self, fields: Fields, offer: Offer) -> dict[str, Any]:
        """See `Target.payload`."""
        kind, trigger = fields.kind, fields.take("trigger.kind")
        if trigger == "unique_code":
            raise CannotSayError("trigger.kind", "a promotion has one code")
        is_coded = trigger == "shared_code"
        currency = fields.take("currency").lower()
        method = _buy_get(fields) if kind == "buy_get" else _method(fields, offer)
        limit = fields.capped("caps.uses") if is_coded else None
        promotion = given(
            code=fields.take("trigger.code") if is_coded else fields.take("id"),
            is_automatic=not is_coded,
            type="buyget" if kind == "buy_get" else "standard",
            status="active",
            campaign=given(
                name=fields.take("id"),
                campaign_identifier=fields.take("id"),
                description=fields.take("provenance.campaign") or None,
                starts_at=fields.take("window.start_at"),
                ends_at=fields.take("window.end_at"),
                budget=_budget(fields, currency, is_coded),
            ),
            application_method=given(
                description=fields.take("label") or None, currency_code=currency, **method
            ),
            rules=_rules(fields),
            limit=limit,
        )
        return {HEAD: promotion}

    def read(self, payload: Mapping[str, Any]) -> Imported:
        """See `Source.read`."""
        if not isinstance(payload.get(HEAD), Mapping):
            raise DataError(f"must hold an object {HEAD!r}", where="payload")
        return read_promotion(payload)


def _budget(fields: Fields, currency: str, is_coded: bool) -> dict[str, Any] | None:
    for path, (name, attribute) in BUDGETS.items():
        if (path == "caps.uses" and is_coded) or fields.peek(path) is None:
            continue
        is_money = "spend" in name
        if fields.peek("caps.period") == "total":
            number = fields.money(path) if is_money else fields.take(path)
            return given(
                type=name,
                limit=float(number or 0) if is_money else number,
                currency_code=currency if is_money else None,
                attribute=attribute,
            )
    return None


def _rule(attribute: str, operator: str, values: list[str]) -> dict[str, Any]:
    return {"attribute": attribute, "operator": operator, "values": values}


def _rules(fields: Fields) -> list[dict[str, Any]]:
    rules = []
    for name, attribute in AUDIENCE.items():
        if names := fields.take(f"audience.{name}"):
            lower = [n.lower() for n in names] if name == "countries" else names
            rules.append(_rule(attribute, "in", lower))
    if fields.kind == "tiered":
        tier = fields.threshold()
        if not tier.is_spend or not fields.is_everything():
            raise CannotSayError("mechanic.basis", "the total of all items counts")
        rules.append(_rule(SPEND, "gte", [str(fields.money("mechanic.tiers[0].min"))]))
    if (least := fields.money("trigger.min_spend")) is not None:
        rules.append(_rule(SPEND, "gte", [least]))
    return rules


def _targets(fields: Fields, scope: str) -> list[dict[str, Any]]:
    """Rules must all hold, so only one kind of selection can be said."""
    include = fields.include(scope, tuple(ITEMS), at_most=1)
    return [_rule(ITEMS[kind], "in", names) for kind, names in include.items()]


def _buy_get(fields: Fields) -> dict[str, Any]:
    if fields.peek("mechanic.bp") != FULL_BP:
        raise CannotSayError("mechanic.bp", "what is got is free")
    if fields.is_everything("mechanic.buy.scope"):
        raise CannotSayError("mechanic.buy.scope", "what must be bought needs a rule")
    fields.take("mechanic.bp")
    if fields.take("mechanic.pick") == "cheapest":
        fields.lose("mechanic.pick", "the dearest units are got")
    if fields.take("mechanic.max_times") != 1:
        fields.lose("mechanic.max_times", "is done once per order")
    return given(
        type="percentage",
        target_type="items",
        allocation="each",
        value=100,
        max_quantity=fields.peek("mechanic.get.quantity"),
        buy_rules=_targets(fields, "mechanic.buy.scope"),
        buy_rules_min_quantity=fields.take("mechanic.buy.quantity"),
        target_rules=_targets(fields, "mechanic.get.scope"),
        apply_to_quantity=fields.take("mechanic.get.quantity"),
    )


def _method(fields: Fields, offer: Offer) -> dict[str, Any]:
    """Type, value, target, allocation and rules of a standard promotion."""
    kind, layer = fields.kind, offer.layer
    if kind not in ("percent_off", "amount_off", "free_shipping", "tiered"):
        raise CannotSayError("mechanic.type", "takes percentages and fixed amounts off")
    amount, bp, is_each = _value(fields, kind)
    value = {"type": "fixed", "value": amount} if bp is None else _percentage(bp)
    is_spread = amount is not None and not is_each  # one amount over all units
    most = None if is_spread else fields.take("scope.max_units")
    allocation = "once" if most else "each" if is_each else "across"
    spread = given(allocation=allocation, max_quantity=most or (ANY_NUMBER if is_each else None))
    if layer == "shipping":
        fields.take("stacking.layer")
        if kind == "percent_off" and bp == FULL_BP:
            fields.lose("mechanic.type", SAME_EFFECT.format("free_shipping"))
        return {**value, "target_type": "shipping_methods", **spread}
    rules = _targets(fields, "scope")
    if layer == "order" and not rules and allocation == "across":
        fields.take("stacking.layer")
        return {**value, "target_type": "order"}
    if layer == read_layer(kind, bool(rules), is_each):
        fields.take("stacking.layer")
    else:
        fields.lose("stacking.layer", "promotions of items have no layers")
    return given(**value, target_type="items", **spread, target_rules=rules)


def _value(fields: Fields, kind: str) -> tuple[float | None, int | None, bool]:
    """Amount in currency units or basis points, and whether it is for each unit."""
    if kind == "free_shipping":
        if fields.peek("mechanic.max_amount") is None:
            return None, FULL_BP, False
        fields.lose("mechanic.type", SAME_EFFECT.format("amount_off"))
        return float(fields.money("mechanic.max_amount") or 0), None, False
    if kind == "percent_off":
        return None, fields.take("mechanic.bp"), False
    if kind == "tiered":
        tier = fields.threshold()
        if tier.amount is None:
            return None, tier.bp, False
        return float(fields.money("mechanic.tiers[0].amount") or 0), None, False
    is_each = fields.take("mechanic.per") == "unit"
    return float(fields.money("mechanic.amount") or 0), None, is_each


def _percentage(bp: int) -> dict[str, Any]:
    return {"type": "percentage", "value": percent_of(bp)}
