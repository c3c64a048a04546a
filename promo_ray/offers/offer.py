"""An offer: a mechanic with its scope, window, stacking and cost of contact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from promo_ray.errors import DataError
from promo_ray.offers.codec import from_plain, keys_checked, mechanic_class, to_plain
from promo_ray.offers.mechanic import Mechanic, is_null
from promo_ray.offers.money import MAX_MONEY, check_int, minor_digits, scaled, text_of, unscaled
from promo_ray.offers.terms import Scope, Stacking, Window

SCHEMA_VERSION = 1
# columns of offer terms that only some mechanics use
_PARAMETERS = ("depth_rate", "amount", "threshold", "item_ids")


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One offer as shops execute it.

    Attributes:
        id: unique, not empty.
        currency: ISO 4217 code; all money of the offer is in its minor units.
        mechanic: what it gives.
        scope: items it applies to.
        window: when it holds.
        stacking: how it combines with other offers.
        contact_cost: minor units to send it to one user, >= 0.
        label: a few plain words; may be empty.
        schema_version: version of this form.
    """

    id: str
    currency: str
    mechanic: Mechanic
    scope: Scope = field(default_factory=Scope)
    window: Window = field(default_factory=Window)
    stacking: Stacking = field(default_factory=Stacking)
    contact_cost: int = 0
    label: str = ""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise DataError(f"must be a text, not empty; got {self.id!r}", where="offer.id")
        minor_digits(self.currency)
        check_int(self.contact_cost, 0, MAX_MONEY, f"offer {self.id!r}: contact_cost")
        check_int(self.schema_version, 1, SCHEMA_VERSION, f"offer {self.id!r}: schema_version")

    @property
    def layer(self) -> str:
        """`item` or `order`."""
        return self.stacking.layer or self.mechanic.layer

    def describe(self) -> str:
        """What a merchant reads, for example `20% off Snacks`."""
        money = partial(text_of, currency=self.currency)
        text = self.mechanic.describe(money, self.scope.describe())
        return text[0].upper() + text[1:]

    def to_json(self) -> str:
        """JSON text, keys sorted; the same offer gives the same bytes."""
        return json.dumps(to_plain(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Offer:
        """Offer of its JSON text.

        Raises:
            DataError: no JSON, unknown or missing keys, a newer version, or a refused value.
        """
        try:
            plain = json.loads(text)
        except ValueError as error:
            raise DataError(f"must be JSON; {error}", where="offer") from error
        return cls.from_mapping(plain)

    @classmethod
    def from_mapping(cls, plain: Any) -> Offer:
        """Offer of its JSON object; see `from_json`."""
        values = keys_checked(cls, plain, "offer")
        where = f"offer {values['id']!r}"
        check_int(values.get("schema_version", 1), 1, SCHEMA_VERSION, f"{where}: schema_version")
        for name, part in (("scope", Scope), ("window", Window), ("stacking", Stacking)):
            if name in values:
                values[name] = from_plain(part, values[name], f"{where}: {name}")
        mechanic = values["mechanic"]
        if not isinstance(mechanic, Mapping):
            raise DataError("must be an object", where=f"{where}: mechanic")
        parameters = {k: v for k, v in mechanic.items() if k != "type"}
        kind = mechanic_class(mechanic.get("type"), f"{where}: mechanic.type")
        values["mechanic"] = from_plain(kind, parameters, f"{where}: mechanic")
        return cls(**values)

    def to_terms(self) -> dict[str, Any]:
        """Row of the table of offer terms, money in currency units; window and stacking are lost.

        Raises:
            DataError: the table cannot hold a parameter of the offer.
        """
        if self.scope.item_ids or len(self.scope.categories) > 1:
            raise DataError(
                "offer terms can hold one category or none", where=f"offer {self.id!r}: scope"
            )
        digits = minor_digits(self.currency)
        own = self.mechanic.to_terms(partial(unscaled, digits=digits))
        return {
            "offer_id": self.id,
            "mechanic": self.mechanic.method,
            **dict.fromkeys(_PARAMETERS),
            **own,
            "scope": self.scope.categories[0] if self.scope.categories else None,
            "contact_cost": unscaled(self.contact_cost, digits),
            "label": self.label,
        }


def from_terms(row: Mapping[str, Any], currency: str = "USD") -> Offer:
    """Offer of a row of the table of offer terms.

    Args:
        row: columns by name; money in currency units, which is rounded half up to minor units
            (a contact cost below half a minor unit becomes 0), rates in [0, 1].
        currency: ISO 4217 code.

    Raises:
        DataError: unknown mechanic, a parameter missing, out of range, or not of the mechanic.
    """
    where = f"offer {row.get('offer_id')!r}"
    digits = minor_digits(currency)
    kind = mechanic_class(row.get("mechanic"), f"{where}: mechanic")
    mechanic = kind.from_terms(row, partial(scaled, digits=digits, where=where))
    used = mechanic.to_terms(partial(unscaled, digits=digits))
    for column in _PARAMETERS:
        if column not in used and not is_null(row.get(column)):
            raise DataError(f"{kind.method} must have null {column!r}", where=where)
    scope = row.get("scope")
    return Offer(
        id=row["offer_id"],
        currency=currency,
        mechanic=mechanic,
        scope=Scope() if is_null(scope) else Scope(categories=(str(scope),)),
        contact_cost=scaled(row["contact_cost"], digits, f"{where}: contact_cost"),
        label=row.get("label") or "",
    )
