"""Carts before and after pricing; all money in minor units."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from promo_ray.errors import DataError
from promo_ray.offers.money import MAX_MONEY, check_int, minor_digits


@dataclass(frozen=True, kw_only=True)
class CartLine:
    """Units of one item at one list price.

    Attributes:
        item_id: item.
        list_price: minor units for one unit, >= 0.
        quantity: units, >= 1.
        category: category path, parts split by " > "; may be empty.
    """

    item_id: str
    list_price: int
    quantity: int = 1
    category: str = ""

    def __post_init__(self) -> None:
        check_int(self.list_price, 0, MAX_MONEY, f"cart line {self.item_id!r}: list_price")
        check_int(self.quantity, 1, 10**9, f"cart line {self.item_id!r}: quantity")


@dataclass(frozen=True, kw_only=True)
class Cart:
    """What a user is about to buy.

    Attributes:
        currency: ISO 4217 code of all prices.
        lines: in the order shown.
        at: time of the order with a zone; None = windows of offers are not looked at.
    """

    currency: str
    lines: tuple[CartLine, ...]
    at: datetime | None = None

    def __post_init__(self) -> None:
        minor_digits(self.currency)
        if self.at is not None and self.at.tzinfo is None:
            raise DataError(f"must have a time zone; got {self.at}", where="cart.at")


class PricedLine(NamedTuple):
    """A cart line after pricing.

    Attributes:
        item_id: item.
        quantity: units.
        list_total: minor units before offers.
        pay: minor units to pay.
        discounts: `(offer_id, minor units)` off this line, by offer id; sums to the difference.
    """

    item_id: str
    quantity: int
    list_total: int
    pay: int
    discounts: tuple[tuple[str, int], ...]


class AppliedOffer(NamedTuple):
    """An offer that saved `saving` minor units; `by_line` is its share on each line."""

    offer_id: str
    saving: int
    by_line: tuple[int, ...]


class RejectedOffer(NamedTuple):
    """An offer that did not apply, with its reason code.

    Codes: `not_started`, `ended`, `not_in_scope`, `below_threshold`, `bundle_incomplete`,
    `no_price_change`, `nothing_left`.
    """

    offer_id: str
    reason: str


class Totals(NamedTuple):
    """Sums over the cart in minor units: `pay = list_total - saving`."""

    list_total: int
    saving: int
    pay: int


@dataclass(frozen=True)
class PricedCart:
    """Outcome of `price_cart`.

    Attributes:
        lines: as in the cart.
        applied: offers that saved something, in the order they were applied.
        rejected: the others, in the order they were looked at.
        totals: sums.
    """

    lines: tuple[PricedLine, ...]
    applied: tuple[AppliedOffer, ...]
    rejected: tuple[RejectedOffer, ...]
    totals: Totals
