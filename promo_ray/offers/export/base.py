"""What every exporter shares: the record of which field was used, and what is lost."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple

from promo_ray.errors import DataError, PromoRayError
from promo_ray.offers.fields import TAG, to_plain
from promo_ray.offers.money import FULL_BP, minor_digits
from promo_ray.offers.offer import Offer

KINDS = ("products", "categories", "brands", "tags")  # lists of a selection
SAME_EFFECT = "is read back as {}, which has the same effect"
_STEP = re.compile(r"[^.\[\]]+")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A field that did not get across.

    Attributes:
        path: the field, for example `caps.budget` or `mechanic.slots[0].quantity`.
        reason: why, in plain words.
    """

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An offer in the JSON of a platform.

    Attributes:
        payload: bodies of the calls to make, in their order, by endpoint or mutation; empty if
            the platform cannot say what the offer does.
        losses: every field of the offer that the payload does not say, by path.
    """

    payload: dict[str, Any]
    losses: tuple[Loss, ...]


@dataclass(frozen=True, kw_only=True)
class Imported:
    """An offer read from the JSON of a platform.

    Attributes:
        offer: what it says.
        losses: every field of the JSON that the offer does not say, by path.
    """

    offer: Offer
    losses: tuple[Loss, ...]


class CannotSayError(PromoRayError):
    """The platform cannot say what the offer does; nothing of it is exported."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


class Threshold(NamedTuple):
    """The only tier of mechanic `tiered`: from `least` on, `amount` or `bp` off."""

    is_spend: bool
    least: int
    amount: int | None
    bp: int | None


class Fields:
    """Values of a JSON object by path, with a record of which were used.

    Values are read with `take`, which counts them as used. Every value that must be accounted for
    and was not taken is a loss, so none can get lost in silence. `peek` reads without counting.
    """

    def __init__(self, values: Mapping[str, Any], counted: Sequence[str]) -> None:
        self._values = values
        self._counted = counted
        self._used: set[str] = set()
        self._lost: dict[str, str] = {}

    @classmethod
    def of_offer(cls, offer: Offer) -> Fields:
        """All fields of an offer; those that differ from their default must be accounted for."""
        return cls(_whole(offer), [path for path, _ in leaves(to_plain(offer))])

    @classmethod
    def of_json(cls, payload: Mapping[str, Any]) -> Fields:
        """All of a payload must be accounted for, except nulls and empty lists and objects."""
        said = [path for path, value in leaves(payload) if value is not None and value != []]
        return cls(payload, said)

    def peek(self, path: str, default: Any = None) -> Any:
        """Value at a path; the default if there is none or it is null."""
        node: Any = self._values
        for step in _STEP.findall(path):
            if isinstance(node, Mapping):
                node = node.get(step)
            elif isinstance(node, list) and step.isdecimal() and int(step) < len(node):
                node = node[int(step)]
            else:
                return default
        return default if node is None else node

    def take(self, path: str, default: Any = None) -> Any:
        """As `peek`; the value, with all below it, counts as used."""
        self._used |= {leaf for leaf in self._counted if _is_below(leaf, path)}
        return self.peek(path, default)

    def lose(self, path: str, reason: str) -> None:
        """Count a field as lost, even if it was used or has its default."""
        self._lost[path] = reason

    def losses(self, reasons: Mapping[str, str], default: str) -> tuple[Loss, ...]:
        """All losses by path; reasons by path, of which the longest that fits holds."""
        found = {path: self._lost.get(path, "") for path in self._counted if path not in self._used}
        found |= self._lost
        for path in found:
            fits = [known for known in reasons if _is_below(path, known)]
            found[path] = found[path] or (reasons[max(fits, key=len)] if fits else default)
        return tuple(Loss(path=path, reason=found[path]) for path in sorted(found))

    # What the exporters ask of an offer.

    @property
    def kind(self) -> str:
        """Name of the mechanic."""
        return str(self.take(f"mechanic.{TAG}"))

    def is_everything(self, scope: str = "scope") -> bool:
        """Whether a scope includes all items; what it excludes does not matter."""
        return not any(self.peek(f"{scope}.include.{kind}") for kind in KINDS)

    def include(self, scope: str, kinds: Sequence[str], at_most: int = 4) -> dict[str, list[str]]:
        """Lists of what a scope includes, by kind; empty if that is everything.

        Args:
            scope: path of the scope.
            kinds: what the platform can select by.
            at_most: how many kinds it can unite in one selection. The others are lost, which
                narrows the scope.

        Raises:
            CannotSayError: there is a selection, and nothing of it can be said, or only what the
                scope excludes.
        """
        present = [kind for kind in KINDS if self.peek(f"{scope}.include.{kind}")]
        sayable = [kind for kind in present if kind in kinds][:at_most]
        if present and not sayable:
            raise CannotSayError(f"{scope}.include", f"selects by {' and '.join(kinds)} only")
        left, out = (
            {(k, n) for k in sayable for n in self.peek(f"{scope}.{side}.{k}", [])}
            for side in ("include", "exclude")
        )
        if left and left <= out:
            reason = f"selects by {' or '.join(sayable)} here, all of which is excluded"
            raise CannotSayError(f"{scope}.include", reason)
        for kind in present:
            if kind not in sayable:
                self.lose(f"{scope}.include.{kind}", f"selects by {' or '.join(sayable)} here")
        return {kind: self.take(f"{scope}.include.{kind}") for kind in sayable}

    def threshold(self) -> Threshold:
        """The only tier of mechanic `tiered`.

        Raises:
            CannotSayError: there are more tiers, or they repeat.
        """
        if len(self.peek("mechanic.tiers")) > 1 or self.peek("mechanic.repeat_every"):
            raise CannotSayError("mechanic.tiers", "takes one threshold, no tiers and no repeats")
        if self.take("mechanic.cumulative"):
            self.lose("mechanic.cumulative", "of one tier the sum is that tier")
        tier = {k: self.take(f"mechanic.tiers[0].{k}") for k in ("min", "amount", "bp")}
        is_spend = self.take("mechanic.basis") == "spend"
        self.lose(f"mechanic.{TAG}", "is said as a reward with a threshold")
        return Threshold(is_spend, tier["min"], tier["amount"], tier["bp"])

    def counts_list_prices(self) -> None:
        """Spend counts before discounts of the cart; another basis is lost."""
        if self.take("trigger.spend_basis") != "list":
            self.lose("trigger.spend_basis", "spend counts before discounts of the cart")

    def capped(self, path: str) -> int | None:
        """A cap that holds over all time; one of a day or a week is not taken."""
        return self.take(path) if self.peek("caps.period") == "total" else None

    def money(self, path: str) -> str | None:
        """Minor units at a path as a decimal text, for example `12.50`."""
        amount = self.take(path)
        return None if amount is None else decimal_of(amount, self.peek("currency"))


class Target:
    """A platform that offers can be exported to.

    Attributes:
        method: its name.
        api: the API and version that the field names are of.
        reasons: why a field is lost, by its path or that of a part above it.
    """

    method: ClassVar[str]
    api: ClassVar[str]
    reasons: ClassVar[Mapping[str, str]] = {}

    def export(self, offer: Offer) -> Exported:
        """See `promo_ray.offers.export.export_offer`."""
        fields, reasons = Fields.of_offer(offer), {**_REASONS, **self.reasons}
        try:
            if offer.trigger.kind == "member":
                raise CannotSayError("trigger.kind", "has no members; use a segment of members")
            payload = self.payload(fields, offer)
        except CannotSayError as error:
            payload, fields = {}, Fields.of_offer(offer)
            fields.lose(error.path, error.reason)
            reasons = {}
            default = f"nothing is exported, since {error.path} cannot be said"
        else:
            default = f"{self.method} has no such field"
        return Exported(payload=payload, losses=fields.losses(reasons, default))

    def payload(self, fields: Fields, offer: Offer) -> dict[str, Any]:
        """Bodies of the calls by endpoint.

        Values of the offer are read from `fields`; `offer` is for what follows from them, such as
        its layer.

        Raises:
            CannotSayError: the platform cannot say what the offer does.
        """
        raise NotImplementedError


class Source:
    """A platform that offers can be imported from."""

    def read(self, payload: Mapping[str, Any]) -> Imported:
        """See `promo_ray.offers.export.import_offer`."""
        raise NotImplementedError


_REASONS = {
    "currency": "amounts are in the currency of the shop or channel",
    "contact_cost": "is no business of a shop",
    "provenance": "changes no price",
    "version": "has no version of its own",
    "caps.floor_price": "has no floor under the price",
    "caps.min_margin_bp": "knows no margins",
    "caps.budget": "limits no money",
    "caps.per_user_money": "limits no money per user",
    "caps.per_order_money": "limits no money per order",
    "caps.period": "has no caps by day or week",
    "audience.holdout_bp": "holds nobody out",
    "audience.salt": "holds nobody out",
    "stacking.base": "computes on prices as they are after earlier discounts",
    "stacking.exclusive": "has no exclusive offers",
    "stacking.group": "has no such groups of offers",
    "stacking.in_group": "has no such groups of offers",
}


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Paths and values of all that a JSON value says; lists of plain values are one value."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list) and any(isinstance(v, Mapping) for v in node):
        for i, value in enumerate(node):
            yield from leaves(value, f"{path}[{i}]")
    else:
        yield path, node


def decimal_of(amount: int, currency: str) -> str:
    """Minor units as a decimal text of currency units, for example `12.50`."""
    return f"{Decimal(amount).scaleb(-minor_digits(currency)):f}"


def minor_of(value: Any, currency: str, where: str) -> int:
    """Minor units of a number or decimal text of currency units.

    Raises:
        DataError: it has more digits than the currency.
    """
    return whole(value, 10 ** minor_digits(currency), where)


def whole(value: Any, factor: int, where: str) -> int:
    """`value * factor` on the shortest decimal form of the value.

    Raises:
        DataError: it is no number, or the product is no integer.
    """
    try:
        product = Decimal(str(value)) * factor
        is_whole = product.is_finite() and product == product.to_integral_value()
    except ArithmeticError:
        is_whole = False
    if not is_whole:
        raise DataError(f"must be a multiple of 1/{factor}; got {value!r}", where=where)
    return int(product)


def percent_of(bp: int) -> float:
    """Basis points as percent."""
    return bp / 100


def share_of(bp: int) -> float:
    """Basis points as a fraction of one."""
    return bp / FULL_BP


def given(**values: Any) -> dict[str, Any]:
    """The values that are neither None nor empty lists."""
    return {key: value for key, value in values.items() if value is not None and value != []}


def _is_below(path: str, above: str) -> bool:
    return path.startswith(above) and path[len(above) : len(above) + 1] in ("", ".", "[")


def _whole(value: Any) -> Any:
    """As `to_plain`, with the fields that have their default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: _whole(getattr(value, f.name)) for f in dataclasses.fields(value)}
        tag = getattr(type(value), "method", None)
        return plain if tag is None else {TAG: tag, **plain}
    return [_whole(v) for v in value] if isinstance(value, tuple) else to_plain(value)
