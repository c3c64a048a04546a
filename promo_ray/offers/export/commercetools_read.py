"""Reading commercetools cart discounts back as offers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from promo_ray.errors import DataError
from promo_ray.offers.export import predicates
from promo_ray.offers.export.base import Fields, Imported, minor_of
from promo_ray.offers.export.shapes import TEXT, WHOLE, Shape, check_shape
from promo_ray.offers.fields import TAG
from promo_ray.offers.money import FULL_BP
from promo_ray.offers.offer import SCHEMA_VERSION, Offer
from promo_ray.offers.scope import Scope

_HEAD = "cart-discounts"
_LAYERS = {"3": "item", "2": "order", "1": "shipping"}
_PICKS = {"Cheapest": "cheapest", "MostExpensive": "dearest"}
_CHANGED = "is beyond what an offer can say"
_UNITS: Shape = {"minCount": WHOLE, "maxCount": WHOLE, "predicate": TEXT}
_SHAPE: Shape = {
    _HEAD: {
        "key": TEXT,
        "name": {"en": TEXT},
        "description": {"en": TEXT},
        "value": {
            "type": TEXT,
            "permyriad": WHOLE,
            "money": [{"centAmount": WHOLE, "currencyCode": TEXT}],
            "applicationMode": TEXT,
            "product": {"key": TEXT},
        },
        "cartPredicate": TEXT,
        "target": {
            "type": TEXT,
            "predicate": TEXT,
            "triggerPattern": [_UNITS],
            "targetPattern": [_UNITS],
            "maxOccurrence": WHOLE,
            "selectionMode": TEXT,
        },
        "sortOrder": TEXT,
        "discountGroup": {"key": TEXT},
        "stores": [{"key": TEXT}],
        "validFrom": TEXT,
        "validUntil": TEXT,
        "requiresDiscountCode": (bool,),
        "stackingMode": TEXT,
    },
    "discount-codes": {
        "code": TEXT,
        "cartDiscounts": [{}],
        "maxApplications": WHOLE,
        "maxApplicationsPerCustomer": WHOLE,
    },
    "discount-groups": {"key": TEXT, "name": {"en": TEXT}, "sortOrder": TEXT},
}
_KEY = re.compile(r"[A-Za-z0-9_-]{2,256}")


def key_of(name: str) -> str:
    """Key of a thing that has a name: the name, or a digest of one that may be no key."""
    if _KEY.fullmatch(name):
        return name
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def read_discount(payload: Mapping[str, Any]) -> Imported:
    """Offer of the bodies that `Commercetools` writes.

    Raises:
        DataError: a field is missing, or its value makes no offer.
    """
    check_shape(payload, _SHAPE, "")
    fields = Fields.of_json(payload)
    plain: dict[str, Any] = {"audience": {}, "trigger": {}, "window": {}, "stacking": {}}
    _names(fields, plain)
    money = _money(fields)
    currency = _predicate(fields, plain) if money is None else money[1]
    if money is not None:
        _predicate(fields, plain)
    if currency is None:
        raise DataError("must name a currency", where=f"{_HEAD}.cartPredicate")
    plain["currency"] = currency
    _reward(fields, plain, None if money is None else money[0])
    _order(fields, plain)
    for name, path in (("start_at", "validFrom"), ("end_at", "validUntil")):
        if (at := fields.take(f"{_HEAD}.{path}")) is not None:
            plain["window"][name] = at
    offer = Offer.from_mapping({"schema_version": SCHEMA_VERSION, **plain})
    return Imported(offer=offer, losses=fields.losses({}, "is no field of an offer"))


def _names(fields: Fields, plain: dict[str, Any]) -> None:
    key, name = fields.take(f"{_HEAD}.key"), fields.take(f"{_HEAD}.name.en")
    if key is None and name is None:
        raise DataError("must be present", where=f"{_HEAD}.key")
    is_label = None not in (key, name) and key != key_of(name)
    plain["id"] = key if is_label or name is None else name
    plain["label"] = name if is_label else fields.take(f"{_HEAD}.description.en", "")
    if fields.peek(f"{_HEAD}.isActive", True):
        fields.take(f"{_HEAD}.isActive")
    trigger = plain["trigger"]
    if fields.take(f"{_HEAD}.requiresDiscountCode"):
        code = fields.take("discount-codes.code")
        trigger["kind"] = "unique_code" if code is None else "shared_code"
        trigger |= {} if code is None else {"code": code}
    if fields.peek("discount-codes.cartDiscounts[0].key") == key:
        fields.take("discount-codes.cartDiscounts[0]")
    if fields.peek("discount-codes.isActive", True):
        fields.take("discount-codes.isActive")
    plain["caps"] = {
        "uses": fields.take("discount-codes.maxApplications"),
        "uses_per_user": fields.take("discount-codes.maxApplicationsPerCustomer"),
    }
    stores = fields.peek(f"{_HEAD}.stores", [])
    plain["audience"]["channels"] = [
        fields.take(f"{_HEAD}.stores[{i}]")["key"] for i in range(len(stores))
    ]


def _order(fields: Fields, plain: dict[str, Any]) -> None:
    stacking, where = plain["stacking"], f"{_HEAD}.sortOrder"
    if (key := fields.take(f"{_HEAD}.discountGroup.key")) is not None:
        fields.take(f"{_HEAD}.discountGroup")
        name = fields.peek("discount-groups.name.en", key)
        group = name if key == key_of(name) else key
        stacking |= {"group": group, "in_group": "best"}
        where = "discount-groups.sortOrder"
        for said in ("key", "name.en", "isActive"):
            if fields.peek(f"discount-groups.{said}") in (key, group, True):
                fields.take(f"discount-groups.{said}")
    text = fields.peek(where, "")
    digits = text.removeprefix("0.")
    if digits[:1] in _LAYERS and len(digits) > 13:
        fields.take(where)
        stacking["layer"] = _LAYERS[digits[0]]
        stacking["priority"] = 10**9 - int(digits[1:11])
        if stacking["layer"] == _default_layer(plain["mechanic"]):
            del stacking["layer"]
    mode = fields.take(f"{_HEAD}.stackingMode")
    stacking["stop"] = mode == "StopAfterThisDiscount"


def _default_layer(mechanic: dict[str, Any]) -> str:
    found: str = Offer.from_mapping(
        {"schema_version": SCHEMA_VERSION, "id": "x", "currency": "EUR", "mechanic": mechanic}
    ).layer
    return found


def _money(fields: Fields) -> tuple[int, str] | None:
    money = fields.peek(f"{_HEAD}.value.money")
    if not money:
        return None
    first = fields.take(f"{_HEAD}.value.money[0]")
    return first["centAmount"], first["currencyCode"]


def _predicate(fields: Fields, plain: dict[str, Any]) -> str | None:
    """Read the cart predicate into trigger and audience; returns the currency it names."""
    path, currency = f"{_HEAD}.cartPredicate", None
    text = fields.take(path, predicates.EVERYTHING)
    trigger, scopes = plain["trigger"], []
    for clause in predicates.clauses(text):
        call, names = predicates.call_of(clause), predicates.names_of(clause)
        if clause == predicates.EVERYTHING:
            continue
        if call is not None and (scope := predicates.read_scope(call[1])) is not None:
            function, _, test = call
            if function == predicates.SPEND and test.startswith('>= "'):
                amount, _, currency = test[4:-1].rpartition(" ")
                least = minor_of(amount, currency, path)
                if least == 0 and scope == Scope():
                    continue
                is_new = trigger.setdefault("min_spend", least) == least
            elif function == predicates.UNITS and test[3:].isdecimal():
                is_new = trigger.setdefault("min_units", int(test[3:])) == int(test[3:])
            else:
                is_new = function == predicates.EXISTS and test == "= true"
            scopes.append(scope)
            if is_new and scopes[0] == scope:
                continue
        elif names is not None and _take_names(names, plain):
            continue
        fields.lose(path, f"{clause} {_CHANGED}")
    if scopes and scopes[0] != Scope():
        trigger["required_scope"] = _plain(scopes[0])
    return currency


def _take_names(names: tuple[str, bool, tuple[str, ...]], plain: dict[str, Any]) -> bool:
    field, is_not, listed = names
    audience = plain["audience"]
    if field == predicates.GROUPS:
        audience["segments_none" if is_not else "segments_any"] = list(listed)
    elif field == predicates.COUNTRIES and not is_not:
        audience["countries"] = list(listed)
    elif field == predicates.METHODS and not is_not:
        plain["methods"] = list(listed)
    else:
        return False
    return True


def _plain(scope: Scope) -> dict[str, Any]:
    return {
        side: {
            kind: list(getattr(getattr(scope, side), kind)) for kind in ("products", "categories")
        }
        for side in ("include", "exclude")
    }


def _scope(fields: Fields, path: str) -> dict[str, Any]:
    text = fields.take(path, predicates.EVERYTHING)
    scope = predicates.read_scope(text)
    if scope is None:
        raise DataError(f"{_CHANGED}; got {text!r}", where=path)
    return _plain(scope)


def _reward(fields: Fields, plain: dict[str, Any], money: int | None) -> None:
    value, target = f"{_HEAD}.value", f"{_HEAD}.target"
    form = fields.take(f"{value}.type")
    bp = fields.take(f"{value}.permyriad")
    mode = fields.take(f"{value}.applicationMode")
    kind = fields.take(f"{target}.type")
    methods = plain.pop("methods", [])
    if form == "giftLineItem":
        plain["mechanic"] = {TAG: "gift", "sku": fields.take(f"{value}.product", {}).get("key")}
        if fields.peek(f"{value}.variantId") == 1:
            fields.take(f"{value}.variantId")
    elif kind == "shipping" and bp == FULL_BP:
        plain["mechanic"] = {TAG: "free_shipping", "methods": methods}
    elif kind == "pattern" and not _is_few(fields, target):
        plain["mechanic"] = _pattern(fields, target, form, bp, money)
    elif kind in ("shipping", "totalPrice", "lineItems", "pattern"):
        if form == "relative":
            plain["mechanic"] = {TAG: "percent_off", "bp": bp}
        elif form == "fixed":
            plain["mechanic"] = {TAG: "fixed_price", "price": money}
        else:
            per = "unit" if mode == "IndividualApplication" else "order"
            plain["mechanic"] = {TAG: "amount_off", "amount": money, "per": per}
        if kind == "lineItems":
            plain["scope"] = _scope(fields, f"{target}.predicate")
        elif kind == "pattern":
            fields.take(target)
            part = f"{target}.targetPattern[0]"
            plain["scope"] = _scope(fields, f"{part}.predicate")
            plain["scope"]["max_units"] = fields.take(f"{part}.maxCount")
    else:
        raise DataError(f"must be a target that offers have; got {kind!r}", where=f"{target}.type")


def _is_few(fields: Fields, target: str) -> bool:
    """Whether a pattern means: the cheapest so many units."""
    parts = fields.peek(f"{target}.targetPattern", [])
    is_once = fields.peek(f"{target}.maxOccurrence") == 1
    is_cheapest = fields.peek(f"{target}.selectionMode") == "Cheapest"
    has_trigger = bool(fields.peek(f"{target}.triggerPattern"))
    return (
        len(parts) == 1
        and parts[0].get("minCount") == 1
        and is_once
        and (is_cheapest and not has_trigger)
    )


def _pattern(
    fields: Fields, target: str, form: str, bp: int | None, money: int | None
) -> dict[str, Any]:
    bought = _slots(fields, f"{target}.triggerPattern")
    got = _slots(fields, f"{target}.targetPattern")
    mode = fields.take(f"{target}.selectionMode", "MostExpensive")
    if mode not in _PICKS:
        known = " or ".join(_PICKS)
        raise DataError(f"must be {known}; got {mode!r}", where=f"{target}.selectionMode")
    pick = _PICKS[mode]
    times = fields.take(f"{target}.maxOccurrence")
    if len(bought) == 1 and len(got) == 1 and bp is not None:
        slots = {"buy": bought[0], "get": got[0]}
        return {TAG: "buy_get", **slots, "bp": bp, "pick": pick, "max_times": times}
    if bought or pick != "dearest":
        raise DataError(_CHANGED, where=f"{target}.triggerPattern")
    reward = {"relative": {"bp": bp}, "fixed": {"price": money}}.get(form, {"amount": money})
    return {TAG: "product_bundle", "slots": got, **reward, "max_times": times}


def _slots(fields: Fields, path: str) -> list[dict[str, Any]]:
    slots = []
    for i in range(len(fields.peek(path, []))):
        part = fields.take(f"{path}[{i}]")
        if part.get("minCount") != part.get("maxCount"):
            raise DataError("must have minCount equal to maxCount", where=f"{path}[{i}]")
        scope = _scope(fields, f"{path}[{i}].predicate")
        slots.append({"scope": scope, "quantity": part["minCount"]})
    return slots
