"""commercetools: cart discounts, with a discount code or a discount group where needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from promo_ray.errors import DataError
from promo_ray.offers.export import predicates
from promo_ray.offers.export.base import (
    SAME_EFFECT,
    CannotSayError,
    Fields,
    Imported,
    Source,
    Target,
    decimal_of,
    given,
)
from promo_ray.offers.export.commercetools_read import key_of, read_discount
from promo_ray.offers.money import FULL_BP
from promo_ray.offers.offer import Offer
from promo_ray.registry import register

_MODES = {"cheapest": "Cheapest", "dearest": "MostExpensive"}
_RANKS = {"item": 3, "order": 2, "shipping": 1}  # higher sort orders come first
_SELECTORS = ("products", "categories")


@register("commercetools")
class Commercetools(Target, Source):
    """Bodies of `POST /discount-groups`, `/cart-discounts` and `/discount-codes`.

    A product is a SKU, a category the key of a category, a segment the key of a customer group, a
    channel the key of a store, a method the key of a shipping method, a gift the key of a product,
    of which variant 1 is given. Layer, priority and id make the sort order. A currency that no
    amount names becomes `lineItemTotal(1 = 1) >= "0.00 EUR"`.

    Source: HTTP API, CartDiscountDraft, DiscountGroupDraft (since 2025-09-30) and
    DiscountCodeDraft, docs.commercetools.com and commercetools-api-reference (RAML), 2026.
    """

    method = "commercetools"
    api = "HTTP API, cart discounts with discount groups (2025-09-30)"
    reasons: ClassVar[Mapping[str, str]] = {
        "scope.skip_on_sale": "is a setting of the project, `BestDeal` or `Stacking`",
        "scope": "patterns have predicates of their own",
        "trigger.spend_basis": "predicates know one total only",
        "mechanic.max_amount": "has no largest saving",
        "mechanic.unit_cost": "knows no costs",
        "mechanic.quantity": "gives one unit",
        "mechanic.choice_of": "gives one product",
        "caps.uses": "only discount codes have limits",
        "caps.uses_per_user": "only discount codes have limits",
        "stacking.combines_with": "is a setting of the project",
        "stacking.in_group": "groups take the best discount",
        "stacking.group": "groups take the best discount",
        "window.weekdays": "holds on all days",
        "window.from_hour": "holds at all hours",
        "window.to_hour": "holds at all hours",
        "window.timezone": "times are UTC",
    }

    def payload(self, fields: Fields, offer: Offer) -> dict[str, Any]:
        """See `Target.payload`."""
        key = key_of(offer.id)
        value, target = _reward(fields, offer.layer)
        group, order = _order(fields, offer)
        has_code = fields.take("trigger.kind") != "automatic"
        stores = [{"typeId": "store", "key": name} for name in fields.take("audience.channels")]
        label = fields.take("label")
        draft = given(
            key=key,
            name={"en": fields.take("id")},
            description={"en": label} if label else None,
            value=value,
            cartPredicate=_cart_predicate(fields, value),
            target=target,
            sortOrder=None if group else order,
            discountGroup={"typeId": "discount-group", "key": group["key"]} if group else None,
            stores=stores,
            isActive=True,
            validFrom=fields.take("window.start_at"),
            validUntil=fields.take("window.end_at"),
            requiresDiscountCode=has_code,
            stackingMode="StopAfterThisDiscount" if fields.take("stacking.stop") else "Stacking",
        )
        payload = {"discount-groups": group} if group else {}
        payload["cart-discounts"] = draft
        if (code := fields.take("trigger.code")) is not None:
            payload["discount-codes"] = given(
                code=code,
                cartDiscounts=[{"typeId": "cart-discount", "key": key}],
                isActive=True,
                maxApplications=fields.capped("caps.uses"),
                maxApplicationsPerCustomer=fields.capped("caps.uses_per_user"),
            )
        return payload

    def read(self, payload: Mapping[str, Any]) -> Imported:
        """See `Source.read`."""
        if not isinstance(payload.get("cart-discounts"), Mapping):
            raise DataError("must hold an object 'cart-discounts'", where="payload")
        return read_discount(payload)


def _order(fields: Fields, offer: Offer) -> tuple[dict[str, Any] | None, str]:
    """Discount group, if any, and sort order.

    The sort order has one digit for the layer, ten for the priority and three for each byte of
    the id, so that higher orders come first exactly as offers do.
    """
    rank, priority = _RANKS[offer.layer], fields.take("stacking.priority")
    fields.take("stacking.layer")
    is_best = offer.stacking.group is not None and offer.stacking.in_group == "best"
    name = (offer.stacking.group if is_best else None) or offer.id
    tail = "".join(f"{256 - byte:03d}" for byte in name.encode())
    order = f"0.{rank}{10**9 - priority:010d}{tail}999"
    if not is_best:
        return None, order
    fields.take("stacking.in_group")
    fields.take("stacking.group")
    return {"key": key_of(name), "name": {"en": name}, "sortOrder": order, "isActive": True}, order


def _scope(fields: Fields, scope: str) -> str:
    exclude = {kind: fields.take(f"{scope}.exclude.{kind}") for kind in _SELECTORS}
    return predicates.scope_text(fields.include(scope, _SELECTORS), exclude)


def _cart_predicate(fields: Fields, value: Mapping[str, Any]) -> str:
    where, currency = "trigger.required_scope", fields.take("currency")
    scope = predicates.EVERYTHING if fields.peek(where) is None else _scope(fields, where)
    parts = []
    if fields.kind == "tiered":
        tier, own = fields.threshold(), _scope(fields, "scope")
        parts.append(_at_least(own, tier.is_spend, tier.least, currency))
    spend, units = fields.take("trigger.min_spend"), fields.take("trigger.min_units")
    if spend is not None:
        parts.append(_at_least(scope, True, spend, currency))
    if units is not None:
        parts.append(_at_least(scope, False, units, currency))
    if spend is None and units is None and scope != predicates.EVERYTHING:
        parts.append(f"{predicates.EXISTS}({scope}) = true")
    if "money" not in value and not any(part.startswith(predicates.SPEND) for part in parts):
        parts.append(_at_least(predicates.EVERYTHING, True, 0, currency))
    methods = fields.take("mechanic.methods") if fields.kind == "free_shipping" else None
    for form, names in (
        ("{} in {}", (predicates.GROUPS, fields.take("audience.segments_any"))),
        ("not({} in {})", (predicates.GROUPS, fields.take("audience.segments_none"))),
        ("{} in {}", (predicates.COUNTRIES, fields.take("audience.countries"))),
        ("{} in {}", (predicates.METHODS, methods)),
    ):
        if names[1]:
            parts.append(form.format(names[0], predicates.listed(names[1])))
    return " and ".join(parts) or predicates.EVERYTHING


def _at_least(scope: str, is_spend: bool, least: int, currency: str) -> str:
    if not is_spend:
        return f"{predicates.UNITS}({scope}) >= {least}"
    return f'{predicates.SPEND}({scope}) >= "{decimal_of(least, currency)} {currency}"'


def _reward(fields: Fields, layer: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """`value` and `target` of the draft."""
    kind = fields.kind
    if kind == "gift":
        product = {"typeId": "product", "key": fields.take("mechanic.sku")}
        return {"type": "giftLineItem", "product": product, "variantId": 1}, None
    if kind == "free_shipping":
        if (most := fields.take("mechanic.max_amount")) is None:
            return _relative(FULL_BP), {"type": "shipping"}
        fields.lose("mechanic.type", SAME_EFFECT.format("amount_off"))
        return _money("absolute", fields, most), {"type": "shipping"}
    if kind == "product_bundle":
        return _bundle(fields)
    if kind == "buy_get":
        target = {
            "type": "pattern",
            "triggerPattern": [_component(fields, "mechanic.buy")],
            "targetPattern": [_component(fields, "mechanic.get")],
            "maxOccurrence": fields.take("mechanic.max_times"),
            "selectionMode": _MODES[fields.take("mechanic.pick")],
        }
        return _relative(fields.take("mechanic.bp")), given(**target)
    if kind not in ("percent_off", "amount_off", "fixed_price", "tiered"):
        raise CannotSayError("mechanic.type", "every discount changes a price")
    if kind == "fixed_price" and layer == "shipping":
        raise CannotSayError("stacking.layer", "fixed prices are for line items")
    value = _plain_value(fields, kind)
    return value, _plain_target(fields, kind, layer, value)


def _plain_value(fields: Fields, kind: str) -> dict[str, Any]:
    if kind == "percent_off":
        return _relative(fields.take("mechanic.bp"))
    if kind == "fixed_price":
        price = fields.take("mechanic.price")
        return _money("fixed", fields, price, "IndividualApplication")
    if kind == "tiered":
        tier = fields.threshold()
        if tier.amount is None:
            return _relative(tier.bp or 0)
        return _money("absolute", fields, tier.amount, "ProportionateDistribution")
    amount, is_each = fields.take("mechanic.amount"), fields.take("mechanic.per") == "unit"
    mode = "IndividualApplication" if is_each else "ProportionateDistribution"
    return _money("absolute", fields, amount, mode)


def _plain_target(
    fields: Fields, kind: str, layer: str, value: Mapping[str, Any]
) -> dict[str, Any]:
    if layer == "shipping":
        if value == _relative(FULL_BP):
            fields.lose("mechanic.type", SAME_EFFECT.format("free_shipping"))
        return {"type": "shipping"}
    predicate = _scope(fields, "scope")
    if (most := fields.take("scope.max_units")) is not None:
        part = _units(predicate, 1, most)
        return {
            "type": "pattern",
            "triggerPattern": [],
            "targetPattern": [part],
            "maxOccurrence": 1,
            "selectionMode": "Cheapest",
        }
    is_each = value.get("applicationMode") == "IndividualApplication"
    if layer == "order" and predicate == predicates.EVERYTHING and not is_each:
        return {"type": "totalPrice"}
    return {"type": "lineItems", "predicate": predicate}


def _bundle(fields: Fields) -> tuple[dict[str, Any], dict[str, Any]]:
    slots = range(len(fields.peek("mechanic.slots")))
    target = {
        "type": "pattern",
        "triggerPattern": [],
        "targetPattern": [_component(fields, f"mechanic.slots[{i}]") for i in slots],
        **given(maxOccurrence=fields.take("mechanic.max_times")),
        "selectionMode": "MostExpensive",
    }
    if (bp := fields.take("mechanic.bp")) is not None:
        return _relative(bp), target
    name = "fixed" if fields.peek("mechanic.price") is not None else "absolute"
    money = fields.take("mechanic.price" if name == "fixed" else "mechanic.amount")
    return _money(name, fields, money, "ProportionateDistribution"), target


def _component(fields: Fields, slot: str) -> dict[str, Any]:
    n = fields.take(f"{slot}.quantity")
    return _units(_scope(fields, f"{slot}.scope"), n, n)


def _units(predicate: str, least: int, most: int) -> dict[str, Any]:
    return {
        "type": "CountOnLineItemUnits",
        "predicate": predicate,
        "minCount": least,
        "maxCount": most,
    }


def _relative(bp: int) -> dict[str, Any]:
    return {"type": "relative", "permyriad": bp}


def _money(name: str, fields: Fields, amount: int, mode: str | None = None) -> dict[str, Any]:
    money = [{"currencyCode": fields.take("currency"), "centAmount": amount}]
    return given(type=name, money=money, applicationMode=mode)
