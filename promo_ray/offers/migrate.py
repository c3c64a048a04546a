"""Older JSON forms of an offer to the present one, version by version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promo_ray.errors import DataError


def migrated(plain: Mapping[str, Any], newest: int) -> dict[str, Any]:
    """JSON object of an offer in the newest form.

    Raises:
        DataError: no version, or one that is newer.
    """
    version = plain.get("schema_version", newest)
    if type(version) is not int or not 1 <= version <= newest:
        raise DataError(f"must be in [1, {newest}]; got {version!r}", where="schema_version")
    return dict(plain) if version == newest else {**_v1_to_v2(plain), "schema_version": newest}


def _v1_to_v2(plain: Mapping[str, Any]) -> dict[str, Any]:
    new = dict(plain)
    scope = dict(new.pop("scope", {}))
    include = {"products": scope.get("item_ids"), "categories": scope.get("categories")}
    new["scope"] = {"include": {k: v for k, v in include.items() if v}}
    mechanic = dict(new.get("mechanic") or {})
    if mechanic.get("type") == "spend_threshold":
        new["trigger"] = {"spend_basis": mechanic.get("spend_basis", "after_item")}
        tier = {"min": mechanic.get("threshold"), "amount": mechanic.get("amount")}
        mechanic = {"type": "tiered", "tiers": [tier]}
    elif mechanic.get("type") == "product_bundle":
        items = mechanic.pop("item_ids", [])
        mechanic["slots"] = [
            {"scope": {"include": {"products": [item]}}, "quantity": items.count(item)}
            for item in dict.fromkeys(items)
        ]
    new["mechanic"] = mechanic
    return new
