"""An offer: a mechanic with all that says where, for whom, when and within what limits it holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Annotated, Any

from promo_ray.errors import DataError
from promo_ray.offers.fields import (
    Between,
    Count,
    Family,
    Money,
    Name,
    from_plain,
    json_schema,
    to_plain,
    validate,
)
from promo_ray.offers.mechanics.base import Mechanic, given, is_null
from promo_ray.offers.mechanics.gift import Gift
from promo_ray.offers.migrate import migrated
from promo_ray.offers.money import minor_digits, scaled, text_of, unscaled
from promo_ray.offers.scope import Scope, Selection
from promo_ray.offers.terms import Audience, Caps, Provenance, Stacking, Trigger, Window
from promo_ray.registry import methods

SCHEMA_VERSION = 2
MECHANICS = "offers.mechanics"  # family in the registry
# columns of offer terms that only some mechanics use
_PARAMETERS = ("depth_rate", "amount", "threshold", "item_ids")


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One offer as shops execute it.

    Attributes:
        id: unique, not empty.
        version: of the offer; a changed offer gets a new one.
        currency: ISO 4217 code; all money of the offer is in its minor units.
        mechanic: what it gives.
        scope: units that it touches.
        trigger: what customer or cart must show.
        audience: who may get it.
        window: when it holds.
        stacking: how it combines with other offers.
        caps: limits.
        provenance: where it comes from.
        contact_cost: minor units to send it to one user.
        label: a few plain words; may be empty.
        schema_version: version of this form.
    """

    id: Name
    version: Count = 1
    currency: str
    mechanic: Annotated[Mechanic, Family(MECHANICS)]
    scope: Scope = field(default_factory=Scope)
    trigger: Trigger = field(default_factory=Trigger)
    audience: Audience = field(default_factory=Audience)
    window: Window = field(default_factory=Window)
    stacking: Stacking = field(default_factory=Stacking)
    caps: Caps = field(default_factory=Caps)
    provenance: Provenance = field(default_factory=Provenance)
    contact_cost: Money = 0
    label: str = ""
    schema_version: Annotated[int, Between((SCHEMA_VERSION, SCHEMA_VERSION))] = SCHEMA_VERSION

    def __post_init__(self) -> None:
        where = f"offer {self.id!r}"
        validate(self, where)
        try:
            minor_digits(self.currency)
        except DataError as error:
            raise DataError(str(error), where=where) from error
        fault = self._fault()
        if fault is not None:
            raise DataError(fault[1], where=f"{where}: {fault[0]}")

    def _fault(self) -> tuple[str, str] | None:
        """Field and text of the first rule broken between parts of the offer."""
        kind, layer = self.mechanic.method, self.layer
        if layer not in self.mechanic.layers:
            return "stacking.layer", f"must be one of {self.mechanic.layers} for {kind}"
        if self.scope.max_units is not None and not self.mechanic.by_unit:
            return "scope.max_units", f"must be null for {kind}, which has limits of its own"
        if layer == "shipping":
            if self.scope != Scope():
                return "scope", "must be empty for shipping; use trigger.required_scope"
            if self.caps.floor_price is not None or self.caps.min_margin_bp is not None:
                return "caps", "must have no floor_price and no min_margin_bp for shipping"
        if isinstance(self.mechanic, Gift):
            if self.scope != Scope():
                return "scope", "must be empty for a gift; use trigger.required_scope"
            if self.stacking.is_compared:
                rule = self.stacking.in_group
                return "stacking.in_group", f"must not be {rule} for a gift, which saves no money"
            if self.caps.per_order_money is not None:
                return "caps.per_order_money", "must be null for a gift, which saves no money"
        return None

    @cached_property
    def layer(self) -> str:
        """`item`, `order` or `shipping`."""
        return self.stacking.layer or self.mechanic.layers[0]

    @cached_property
    def has_caps(self) -> bool:
        """Whether any cap is set."""
        return self.caps != Caps()

    @cached_property
    def is_for_all(self) -> bool:
        """Whether every user may have it."""
        return self.audience == Audience()

    @cached_property
    def order(self) -> tuple[int, str]:
        """What offers of one layer are sorted by: priority, then id."""
        return self.stacking.priority, self.id

    def describe(self) -> str:
        """What a merchant reads, for example `20% off Snacks`."""
        money = partial(text_of, currency=self.currency)
        text = self.mechanic.describe(money, self.scope.describe())
        return text[0].upper() + text[1:]

    def to_mapping(self) -> dict[str, Any]:
        """JSON object; parts at their default are left out, the schema version never is."""
        return {**to_plain(self), "schema_version": SCHEMA_VERSION}

    def to_json(self) -> str:
        """JSON text, keys sorted; the same offer gives the same bytes."""
        return json.dumps(
            self.to_mapping(), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Offer:
        """Offer of its JSON text.

        Raises:
            DataError: no JSON, unknown, missing or repeated keys, a newer version, or a refused
                value.
        """
        try:
            plain = json.loads(text, object_pairs_hook=_keys_once)
        except (ValueError, RecursionError) as error:
            raise DataError(f"must be JSON; {error}", where="offer") from error
        return cls.from_mapping(plain)

    @classmethod
    def from_mapping(cls, plain: Any) -> Offer:
        """Offer of its JSON object, of this schema version or an older one; see `from_json`."""
        if not isinstance(plain, Mapping):
            raise DataError(f"must be an object; got {type(plain).__name__}", where="offer")
        where = f"offer {plain.get('id')!r}"
        try:
            return from_plain(cls, migrated(plain, SCHEMA_VERSION), "offer")
        except DataError as error:
            if str(error).startswith(where):
                raise
            raise DataError(str(error), where=where) from error

    def to_terms(self) -> dict[str, Any]:
        """Row of the table of offer terms, money in currency units.

        Audience, window, stacking, caps and provenance are lost.

        Raises:
            DataError: the table cannot hold mechanic, scope or trigger.
        """
        where = f"offer {self.id!r}"
        categories = self.scope.include.categories
        if len(categories) > 1 or self.scope != Scope.of(categories=categories):
            raise DataError("offer terms can hold one category or none", where=f"{where}: scope")
        if self.trigger != Trigger():
            raise DataError("offer terms hold no trigger", where=f"{where}: trigger")
        digits = minor_digits(self.currency)
        own = self.mechanic.to_terms(partial(unscaled, digits=digits))
        return {
            "offer_id": self.id,
            "mechanic": self.mechanic.terms_name,
            **dict.fromkeys(_PARAMETERS),
            **own,
            "scope": categories[0] if categories else None,
            "contact_cost": unscaled(self.contact_cost, digits),
            "label": self.label,
        }


def _keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Object of its pairs; of a key that comes twice, `json` would silently keep the last."""
    plain = dict(pairs)
    if len(plain) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} comes twice")
    return plain


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
    kinds: Iterable[Any] = methods(MECHANICS).values()
    known = {kind.terms_name: kind for kind in kinds if kind.terms_name}
    name = row.get("mechanic")
    if name not in known:
        raise DataError(
            f"must be one of {', '.join(sorted(known))}; got {name!r}", where=f"{where}: mechanic"
        )
    mechanic = known[name].from_terms(row, partial(scaled, digits=digits, where=where))
    used = mechanic.to_terms(partial(unscaled, digits=digits))
    for column in _PARAMETERS:
        if column not in used and not is_null(row.get(column)):
            raise DataError(f"{name} must have null {column!r}", where=where)
    scope = row.get("scope")
    return Offer(
        id=given(row, "offer_id"),
        currency=currency,
        mechanic=mechanic,
        scope=Scope() if is_null(scope) else Scope.of(categories=(str(scope),)),
        contact_cost=scaled(given(row, "contact_cost"), digits, f"{where}: contact_cost"),
        label=row.get("label") or "",
    )


def offer_schema() -> dict[str, Any]:
    """JSON Schema of an offer, as `docs/offers.schema.json` publishes it."""
    return json_schema(Offer, "Offer")


def check_offers(offers: Sequence[Offer]) -> None:
    """Refuse offers that contradict each other; `price_cart` needs only the first three rules.

    Raises:
        DataError: names the field: an id twice, two currencies, a group whose members differ in
            layer or in_group, or exclusive offers of one layer and priority that share no group
            and may meet.
    """
    if offers:
        check_together(offers, offers[0].currency, "the other offers")
    exclusive: dict[tuple[str, int], list[Offer]] = {}
    for offer in offers:
        stacking = offer.stacking
        if not stacking.exclusive:
            continue
        others = exclusive.setdefault((offer.layer, stacking.priority), [])
        for other in others:
            is_one_group = stacking.group is not None and stacking.group == other.stacking.group
            if not is_one_group and _may_meet(offer, other):
                raise DataError(
                    f"exclusive offers must not overlap; {other.id!r} has layer {offer.layer} "
                    f"and priority {stacking.priority} too and may meet it: give them one "
                    "group or two priorities",
                    where=f"offer {offer.id!r}: stacking.exclusive",
                )
        others.append(offer)


def check_together(offers: Sequence[Offer], currency: str, whose: str) -> None:
    """Refuse offers that cannot be priced together.

    Args:
        offers: the offers.
        currency: which all must have.
        whose: currency that is, in words.

    Raises:
        DataError: names the field: an id twice, another currency, or a group that disagrees.
    """
    seen: set[str] = set()
    groups: dict[str, Offer] = {}
    for offer in offers:
        where = f"offer {offer.id!r}"
        if offer.id in seen:
            raise DataError("must be unique; it comes twice", where=f"{where}: id")
        seen.add(offer.id)
        if offer.currency != currency:
            raise DataError(
                f"must be that of {whose}, {currency}; got {offer.currency}",
                where=f"{where}: currency",
            )
        if offer.stacking.group is not None:
            _check_group(offer, groups.setdefault(offer.stacking.group, offer))


def _check_group(offer: Offer, other: Offer) -> None:
    """Refuse members of one group that disagree on what the group is."""
    for name, own, its in (
        ("layer", offer.layer, other.layer),
        ("in_group", offer.stacking.in_group, other.stacking.in_group),
    ):
        if own != its:
            raise DataError(
                f"must agree within group {offer.stacking.group!r}; {other.id!r} has {its}, "
                f"this has {own}",
                where=f"offer {offer.id!r}: stacking.{name}",
            )


def _may_meet(a: Offer, b: Offer) -> bool:
    """Whether two offers of a layer may get into each other's way; True where it is not known."""
    for one, two in ((a, b), (b, a)):
        if one.window.end_at and two.window.start_at and one.window.end_at <= two.window.start_at:
            return False
        theirs = two.audience
        if theirs.segments_any and set(theirs.segments_any) <= set(one.audience.segments_none):
            return False
    for name in ("channels", "countries"):
        some, others = (set(getattr(o.audience, name)) for o in (a, b))
        if some and others and some.isdisjoint(others):
            return False
    if a.layer != "item":
        return True  # exclusive offers of an order close the layer, whatever their scope
    own, its = a.scope.include, b.scope.include
    if _says_only("products", own, its):
        return not set(own.products).isdisjoint(its.products)
    if _says_only("categories", own, its):
        return any(
            f"{x} > ".startswith(f"{y} > ") or f"{y} > ".startswith(f"{x} > ")
            for x in own.categories
            for y in its.categories
        )
    return True


def _says_only(name: str, *selections: Selection) -> bool:
    """Whether every one of the selections has values of this field and of no other."""
    return all(s == Selection(**{name: getattr(s, name)}) != Selection() for s in selections)
