"""Medusa: promotions, each with a campaign of its own, written and read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promo_ray.errors import DataError
from promo_ray.offers.export.base import (
    SAME_EFFECT,
    CannotSayError,
    Fields,
    Imported,
    Source,
    Target,
    given,
    minor_of,
    percent_of,
    whole,
)
from promo_ray.offers.fields import TAG
from promo_ray.offers.money import FULL_BP
from promo_ray.offers.offer import Offer
from promo_ray.registry import register

_HEAD = "promotions"
_METHOD = f"{_HEAD}.application_method"
_CAMPAIGN = f"{_HEAD}.campaign"
_ANY_NUMBER = 10**9  # allocation `each` must name a largest quantity
_ITEMS = {
    "products": "items.product.id",
    "categories": "items.product.categories.id",
    "tags": "items.product.tags.id",
}
_AUDIENCE = {
    "segments_any": "customer.groups.id",
    "countries": "shipping_address.country_code",
    "channels": "sales_channel_id",
}
_SPEND = "item_total"
# caps that a campaign budget can hold, one of them: its type and its attribute
_BUDGETS = {
    "caps.budget": ("spend", None),
    "caps.uses": ("usage", None),
    "caps.uses_per_user": ("use_by_attribute", "customer_id"),
    "caps.per_user_money": ("spend_by_attribute", "customer_id"),
}


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
    reasons = {
        "scope.skip_on_sale": "cannot tell items on sale",
        "scope.exclude": "excludes nothing",
        "scope": "has no such rule for this mechanic",
        "trigger.min_units": "has no smallest number of units",
        "trigger.required_scope": "the total of all items counts",
        "trigger.spend_basis": "totals are after discounts",
        "trigger.kind": "has no members",
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
        kind, trigger = fields.kind, fields.peek("trigger.kind")
        if trigger == "unique_code":
            raise CannotSayError("trigger.kind", "a promotion has one code")
        if trigger != "member":
            fields.take("trigger.kind")
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
        return {_HEAD: promotion}

    def read(self, payload: Mapping[str, Any]) -> Imported:
        """See `Source.read`."""
        if not isinstance(payload.get(_HEAD), Mapping):
            raise DataError(f"must hold an object {_HEAD!r}", where="payload")
        return _read(Fields.of_json(payload))


def _budget(fields: Fields, currency: str, is_coded: bool) -> dict[str, Any] | None:
    for path, (name, attribute) in _BUDGETS.items():
        if (path == "caps.uses" and is_coded) or fields.peek(path) is None:
            continue
        is_money = "spend" in name
        if fields.peek("caps.period") == "total":
            number = fields.money(path) if is_money else fields.take(path)
            return given(
                type=name,
                limit=float(number) if is_money else number,
                currency_code=currency if is_money else None,
                attribute=attribute,
            )
    return None


def _rule(attribute: str, operator: str, values: list[str]) -> dict[str, Any]:
    return {"attribute": attribute, "operator": operator, "values": values}


def _rules(fields: Fields) -> list[dict[str, Any]]:
    rules = []
    for name, attribute in _AUDIENCE.items():
        if names := fields.take(f"audience.{name}"):
            lower = [n.lower() for n in names] if name == "countries" else names
            rules.append(_rule(attribute, "in", lower))
    if fields.kind == "tiered":
        tier = fields.threshold()
        if not tier.is_spend or not fields.is_everything():
            raise CannotSayError("mechanic.basis", "the total of all items counts")
        rules.append(_rule(_SPEND, "gte", [str(fields.money("mechanic.tiers[0].min"))]))
    if (least := fields.money("trigger.min_spend")) is not None:
        rules.append(_rule(_SPEND, "gte", [least]))
    return rules


def _targets(fields: Fields, scope: str) -> list[dict[str, Any]]:
    """Rules must all hold, so only one kind of selection can be said."""
    include = fields.include(scope, tuple(_ITEMS), at_most=1)
    return [_rule(_ITEMS[kind], "in", names) for kind, names in include.items()]


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
    most = fields.take("scope.max_units")
    allocation = "once" if most else "each" if is_each else "across"
    spread = given(allocation=allocation, max_quantity=most or (_ANY_NUMBER if is_each else None))
    if layer == "shipping":
        fields.take("stacking.layer")
        if kind == "percent_off" and bp == FULL_BP:
            fields.lose("mechanic.type", SAME_EFFECT.format("free_shipping"))
        return {**value, "target_type": "shipping_methods", **spread}
    rules = _targets(fields, "scope")
    if layer == "order" and not rules and allocation == "across":
        fields.take("stacking.layer")
        return {**value, "target_type": "order"}
    if layer == "item" and (not rules or kind == "percent_off"):
        fields.take("stacking.layer")
    elif layer != _read_layer(kind, bool(rules), is_each):
        fields.lose("stacking.layer", "promotions of items have no layers")
    return given(**value, target_type="items", **spread, target_rules=rules)


def _read_layer(kind: str, has_rules: bool, is_each: bool) -> str:
    """Layer that a promotion of items is read back with."""
    return "order" if kind == "amount_off" and (has_rules or is_each) else "item"


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


def _read(fields: Fields) -> Imported:
    plain: dict[str, Any] = {"schema_version": 2, "stacking": {}, "caps": {}}
    _read_names(fields, plain)
    currency = fields.take(f"{_METHOD}.currency_code")
    if currency is None:
        raise DataError("must be present", where=f"{_METHOD}.currency_code")
    plain["currency"] = str(currency).upper()
    _read_method(fields, plain)
    _read_rules(fields, plain)
    _read_budget(fields, plain)
    offer = Offer.from_mapping(plain)
    return Imported(offer=offer, losses=fields.losses({}, "is no field of an offer"))


def _read_names(fields: Fields, plain: dict[str, Any]) -> None:
    code = fields.take(f"{_HEAD}.code")
    plain["id"] = fields.take(f"{_CAMPAIGN}.campaign_identifier", code)
    plain["label"] = fields.take(f"{_METHOD}.description", "")
    plain["provenance"] = {"campaign": fields.take(f"{_CAMPAIGN}.description", "")}
    if fields.peek(f"{_CAMPAIGN}.name") == plain["id"]:
        fields.take(f"{_CAMPAIGN}.name")
    if fields.peek(f"{_HEAD}.status") == "active":
        fields.take(f"{_HEAD}.status")
    is_automatic = fields.take(f"{_HEAD}.is_automatic", False)
    plain["trigger"] = {} if is_automatic else {"kind": "shared_code", "code": code}
    plain["window"] = {
        "start_at": fields.take(f"{_CAMPAIGN}.starts_at"),
        "end_at": fields.take(f"{_CAMPAIGN}.ends_at"),
    }


def _read_rules(fields: Fields, plain: dict[str, Any]) -> None:
    names = {attribute: name for name, attribute in _AUDIENCE.items()}
    audience: dict[str, Any] = {}
    for i in range(len(fields.peek(f"{_HEAD}.rules", []))):
        rule = fields.peek(f"{_HEAD}.rules[{i}]")
        attribute, test, values = rule["attribute"], rule["operator"], rule["values"]
        values = [values] if isinstance(values, str) else values
        if attribute in names and test == "in" and names[attribute] not in audience:
            upper = attribute == _AUDIENCE["countries"]
            audience[names[attribute]] = [v.upper() for v in values] if upper else values
        elif attribute == _SPEND and test == "gte" and "min_spend" not in plain["trigger"]:
            where = f"{_HEAD}.rules[{i}].values"
            plain["trigger"]["min_spend"] = minor_of(values[0], plain["currency"], where)
        else:
            continue
        fields.take(f"{_HEAD}.rules[{i}]")
    plain["audience"] = audience


def _read_budget(fields: Fields, plain: dict[str, Any]) -> None:
    caps = plain["caps"]
    caps["uses"] = fields.take(f"{_HEAD}.limit")
    budget = fields.peek(f"{_CAMPAIGN}.budget", {})
    kind = (budget.get("type"), budget.get("attribute"))
    for path, known in _BUDGETS.items():
        name = path.removeprefix("caps.")
        if kind == known and caps.get(name) is None:
            limit = fields.take(f"{_CAMPAIGN}.budget")["limit"]
            is_money = "spend" in known[0]
            where = f"{_CAMPAIGN}.budget.limit"
            caps[name] = minor_of(limit, plain["currency"], where) if is_money else limit


def _read_scope(fields: Fields, path: str) -> dict[str, Any]:
    kinds = {attribute: kind for kind, attribute in _ITEMS.items()}
    include: dict[str, Any] = {}
    for i in range(len(fields.peek(path, []))):
        rule = fields.peek(f"{path}[{i}]")
        values = rule["values"]
        if rule["attribute"] in kinds and rule["operator"] == "in" and not include:
            fields.take(f"{path}[{i}]")
            include[kinds[rule["attribute"]]] = [values] if isinstance(values, str) else values
    return {"include": include}


def _read_method(fields: Fields, plain: dict[str, Any]) -> None:
    where = f"{_METHOD}.value"
    form, value = fields.take(f"{_METHOD}.type"), fields.take(where)
    target, allocation = (fields.take(f"{_METHOD}.{k}") for k in ("target_type", "allocation"))
    most = fields.take(f"{_METHOD}.max_quantity")
    bp = whole(value, 100, where) if form == "percentage" else None
    if fields.take(f"{_HEAD}.type") == "buyget":
        plain["mechanic"] = _read_buy_get(fields, bp)
        return
    is_each = allocation == "each" and most == _ANY_NUMBER
    scope = _read_scope(fields, f"{_METHOD}.target_rules")
    if bp == FULL_BP and target == "shipping_methods":
        plain["mechanic"] = {TAG: "free_shipping"}
        return
    if allocation == "each" and not is_each:
        fields.lose(f"{_METHOD}.max_quantity", "limits each line, an offer limits all units")
    if bp is not None:
        plain["mechanic"], default = {TAG: "percent_off", "bp": bp}, "item"
    else:
        amount = minor_of(value, plain["currency"], where)
        per = "order" if allocation in ("across", None) else "unit"
        plain["mechanic"], default = {TAG: "amount_off", "amount": amount, "per": per}, "order"
    layer = {"shipping_methods": "shipping", "order": "order"}.get(target)
    if layer is None:
        plain["scope"] = {**scope, "max_units": most if allocation == "once" else None}
        has_rules = bool(scope["include"])
        layer = _read_layer(plain["mechanic"][TAG], has_rules, per_unit(plain["mechanic"]))
    if layer != default:
        plain["stacking"]["layer"] = layer


def per_unit(mechanic: Mapping[str, Any]) -> bool:
    """Whether the JSON form of a mechanic takes an amount off every unit."""
    return mechanic.get("per") == "unit"


def _read_buy_get(fields: Fields, bp: int | None) -> dict[str, Any]:
    if bp != FULL_BP:
        fields.lose(f"{_METHOD}.value", "what is got is free")
    buy, get = (
        {"scope": _read_scope(fields, f"{_METHOD}.{rules}"), "quantity": fields.take(number)}
        for rules, number in (
            ("buy_rules", f"{_METHOD}.buy_rules_min_quantity"),
            ("target_rules", f"{_METHOD}.apply_to_quantity"),
        )
    )
    return {TAG: "buy_get", "buy": buy, "get": get, "pick": "dearest", "max_times": 1}
