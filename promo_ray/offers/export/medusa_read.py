"""Reading Medusa promotions back as offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promo_ray.errors import DataError
from promo_ray.offers.export.base import Fields, Imported, minor_of, whole
from promo_ray.offers.export.shapes import TEXT, WHOLE, Shape, check_shape
from promo_ray.offers.fields import TAG
from promo_ray.offers.money import FULL_BP
from promo_ray.offers.offer import SCHEMA_VERSION, Offer

HEAD = "promotions"
_METHOD = f"{HEAD}.application_method"
_CAMPAIGN = f"{HEAD}.campaign"
ANY_NUMBER = 10**9  # allocation `each` must name a largest quantity
ITEMS = {
    "products": "items.product.id",
    "categories": "items.product.categories.id",
    "tags": "items.product.tags.id",
}
AUDIENCE = {
    "segments_any": "customer.groups.id",
    "countries": "shipping_address.country_code",
    "channels": "sales_channel_id",
}
SPEND = "item_total"
# caps that a campaign budget can hold, one of them: its type and its attribute
BUDGETS = {
    "caps.budget": ("spend", None),
    "caps.uses": ("usage", None),
    "caps.uses_per_user": ("use_by_attribute", "customer_id"),
    "caps.per_user_money": ("spend_by_attribute", "customer_id"),
}
_RULE: Shape = {"attribute": TEXT, "operator": TEXT, "values": (str, list)}
_SHAPE: Shape = {
    HEAD: {
        "code": TEXT,
        "is_automatic": (bool,),
        "type": TEXT,
        "campaign": {
            "campaign_identifier": TEXT,
            "description": TEXT,
            "starts_at": TEXT,
            "ends_at": TEXT,
            "budget": {"type": TEXT, "limit": (int, float), "attribute": TEXT},
        },
        "application_method": {
            "description": TEXT,
            "currency_code": TEXT,
            "type": TEXT,
            "value": (int, float),
            "target_type": TEXT,
            "allocation": TEXT,
            "max_quantity": WHOLE,
            "target_rules": [_RULE],
            "buy_rules": [_RULE],
            "apply_to_quantity": WHOLE,
            "buy_rules_min_quantity": WHOLE,
        },
        "rules": [_RULE],
        "limit": WHOLE,
    }
}


def read_layer(kind: str, has_rules: bool, is_each: bool) -> str:
    """Layer that a promotion of items is read back with."""
    return "order" if kind == "amount_off" and (has_rules or is_each) else "item"


def read_promotion(payload: Mapping[str, Any]) -> Imported:
    """Offer of the body that `Medusa` writes.

    Raises:
        DataError: a field is missing, or its value makes no offer.
    """
    check_shape(payload, _SHAPE, "")
    fields = Fields.of_json(payload)
    plain: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "stacking": {}, "caps": {}}
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
    code = fields.take(f"{HEAD}.code")
    plain["id"] = fields.take(f"{_CAMPAIGN}.campaign_identifier", code)
    plain["label"] = fields.take(f"{_METHOD}.description", "")
    plain["provenance"] = {"campaign": fields.take(f"{_CAMPAIGN}.description", "")}
    if fields.peek(f"{_CAMPAIGN}.name") == plain["id"]:
        fields.take(f"{_CAMPAIGN}.name")
    if fields.peek(f"{HEAD}.status") == "active":
        fields.take(f"{HEAD}.status")
    is_automatic = fields.take(f"{HEAD}.is_automatic", False)
    plain["trigger"] = {} if is_automatic else {"kind": "shared_code", "code": code}
    plain["window"] = {
        "start_at": fields.take(f"{_CAMPAIGN}.starts_at"),
        "end_at": fields.take(f"{_CAMPAIGN}.ends_at"),
    }


def _read_rules(fields: Fields, plain: dict[str, Any]) -> None:
    names = {attribute: name for name, attribute in AUDIENCE.items()}
    audience: dict[str, Any] = {}
    for i in range(len(fields.peek(f"{HEAD}.rules", []))):
        rule = fields.peek(f"{HEAD}.rules[{i}]")
        attribute, test = rule["attribute"], rule["operator"]
        values = _values(rule, f"{HEAD}.rules[{i}]")
        if attribute in names and test == "in" and names[attribute] not in audience:
            upper = attribute == AUDIENCE["countries"]
            audience[names[attribute]] = [v.upper() for v in values] if upper else values
        elif attribute == SPEND and test == "gte" and "min_spend" not in plain["trigger"]:
            where = f"{HEAD}.rules[{i}].values"
            plain["trigger"]["min_spend"] = minor_of(values[0], plain["currency"], where)
        else:
            continue
        fields.take(f"{HEAD}.rules[{i}]")
    plain["audience"] = audience


def _values(rule: Mapping[str, Any], where: str) -> list[str]:
    """Values of a rule, at least one; a single one may stand without a list."""
    values = [rule["values"]] if isinstance(rule["values"], str) else rule["values"]
    if not values or not all(isinstance(value, str) for value in values):
        raise DataError(f"must be one or more texts; got {values!r}", where=f"{where}.values")
    return list(values)


def _read_budget(fields: Fields, plain: dict[str, Any]) -> None:
    caps = plain["caps"]
    caps["uses"] = fields.take(f"{HEAD}.limit")
    budget = fields.peek(f"{_CAMPAIGN}.budget", {})
    kind = (budget.get("type"), budget.get("attribute"))
    for path, known in BUDGETS.items():
        name = path.removeprefix("caps.")
        if kind == known and caps.get(name) is None:
            limit = fields.take(f"{_CAMPAIGN}.budget").get("limit")
            is_money = "spend" in known[0]
            where = f"{_CAMPAIGN}.budget.limit"
            caps[name] = minor_of(limit, plain["currency"], where) if is_money else limit


def _read_scope(fields: Fields, path: str) -> dict[str, Any]:
    kinds = {attribute: kind for kind, attribute in ITEMS.items()}
    include: dict[str, Any] = {}
    for i in range(len(fields.peek(path, []))):
        rule = fields.peek(f"{path}[{i}]")
        values = _values(rule, f"{path}[{i}]")
        if rule["attribute"] in kinds and rule["operator"] == "in" and not include:
            fields.take(f"{path}[{i}]")
            include[kinds[rule["attribute"]]] = values
    return {"include": include}


def _read_method(fields: Fields, plain: dict[str, Any]) -> None:
    where = f"{_METHOD}.value"
    form, value = fields.take(f"{_METHOD}.type"), fields.take(where)
    target, allocation = (fields.take(f"{_METHOD}.{k}") for k in ("target_type", "allocation"))
    most = fields.take(f"{_METHOD}.max_quantity")
    bp = whole(value, 100, where) if form == "percentage" else None
    if fields.take(f"{HEAD}.type") == "buyget":
        plain["mechanic"] = _read_buy_get(fields, bp)
        return
    is_each = allocation == "each" and most == ANY_NUMBER
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
        layer = read_layer(plain["mechanic"][TAG], has_rules, _per_unit(plain["mechanic"]))
    if layer != default:
        plain["stacking"]["layer"] = layer


def _per_unit(mechanic: Mapping[str, Any]) -> bool:
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
