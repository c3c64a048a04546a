"""Carts before and after pricing, and what is known of the customer; money in minor units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Annotated, NamedTuple

from promo_ray.errors import DataError
from promo_ray.offers.fields import Between, Count, Money, Names, validate
from promo_ray.offers.money import minor_digits
from promo_ray.offers.reasons import Reason

_MOST = 10**18  # minor units of a cart, so that its sums fit into int64


def marks_of(item_id: str, category: str, brand: str, tags: Iterable[str]) -> frozenset[str]:
    """What a `Selection` can know an item by: id, category and all above it, brand, tags."""
    marks = {f"p:{item_id}", *(f"t:{tag}" for tag in tags)}
    if brand:
        marks.add(f"b:{brand}")
    path = category
    while path:
        marks.add(f"c:{path}")
        path = path.rpartition(" > ")[0]
    return frozenset(marks)


@dataclass(frozen=True, kw_only=True)
class CartLine:
    """Units of one item at one list price.

    Attributes:
        item_id: item.
        list_price: minor units for one unit before any offer of this package.
        quantity: units.
        category: category path, parts split by " > "; may be empty.
        brand: brand; may be empty.
        tags: tags.
        unit_cost: minor units that one unit costs the shop; None = not known.
        is_on_sale: whether the list price is already a reduced one.
    """

    item_id: str
    list_price: Money
    quantity: Count = 1
    category: str = ""
    brand: str = ""
    tags: Names = ()
    unit_cost: Money | None = None
    is_on_sale: bool = False

    def __post_init__(self) -> None:
        validate(self, f"cart line {self.item_id!r}")

    @cached_property
    def marks(self) -> frozenset[str]:
        """What a `Selection` can know the item by."""
        return marks_of(self.item_id, self.category, self.brand, self.tags)


@dataclass(frozen=True, kw_only=True)
class Shipping:
    """Shipping of a cart.

    Attributes:
        price: minor units before any offer.
        method: what offers know it by; may be empty.
    """

    price: Money
    method: str = ""

    def __post_init__(self) -> None:
        validate(self, "shipping")


@dataclass(frozen=True, kw_only=True)
class Cart:
    """What a user is about to buy.

    Attributes:
        currency: ISO 4217 code of all prices.
        lines: in the order shown.
        shipping: None = not known yet, or nothing to ship.

    Raises:
        DataError: a field out of range, or list prices that sum to more than 10^18 minor units.
    """

    currency: str
    lines: tuple[CartLine, ...]
    shipping: Shipping | None = None

    def __post_init__(self) -> None:
        validate(self, "cart")
        minor_digits(self.currency)
        total = sum([line.list_price * line.quantity for line in self.lines])
        if total > _MOST:
            raise DataError(f"must sum to at most {_MOST} minor units; got {total}", where="cart")


@dataclass(frozen=True, kw_only=True)
class CapsLeft:
    """What is left of the caps of one offer; None = as much as the cap says.

    Attributes:
        budget: minor units.
        uses: orders.
        user_uses: orders of this user.
        user_money: minor units for this user.
    """

    budget: Money | None = None
    uses: Money | None = None
    user_uses: Money | None = None
    user_money: Money | None = None

    def __post_init__(self) -> None:
        validate(self, "left")


@dataclass(frozen=True, kw_only=True)
class Context:
    """What pricing must know besides cart and offers. The caller keeps it; pricing changes nothing.

    Attributes:
        now: instant that windows are judged at, with a time zone.
        user_id: user; empty = not known, and then holdouts and caps per user reject.
        segments: segments of the user.
        is_member: whether the user is a member.
        n_orders: earlier orders; None = not known.
        codes: codes that were entered.
        unlocked: ids of offers whose unique code was entered and is valid and unused.
        lists: names of the lists (`Audience.user_ids_ref`) that the user is on.
        channel: sales channel; may be empty.
        country: ISO 3166 code of two letters; may be empty.
        left: what is left of caps, by offer id.
        gift_stock: units in stock by sku; None = stock is not looked at.
        gift_choice: chosen sku by offer id, for gifts with a choice.
    """

    now: datetime
    user_id: str = ""
    segments: frozenset[str] = frozenset()
    is_member: bool = False
    n_orders: Annotated[int, Between((0, 10**9))] | None = None
    codes: frozenset[str] = frozenset()
    unlocked: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    channel: str = ""
    country: str = ""
    left: Mapping[str, CapsLeft] = field(default_factory=dict)
    gift_stock: Mapping[str, int] | None = None
    gift_choice: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        validate(self, "context")
        if not 1 < self.now.year < 9999:  # so that it has a local time in every zone
            raise DataError(f"must lie in the years 2 to 9998; got {self.now}", where="context.now")


class Discount(NamedTuple):
    """Minor units off that come from one offer."""

    offer_id: str
    saving: int


class PricedLine(NamedTuple):
    """A cart line after pricing.

    Attributes:
        item_id: item.
        quantity: units.
        list_total: minor units before offers.
        pay: minor units to pay.
        discounts: off this line, by offer id; they sum to the difference.
    """

    item_id: str
    quantity: int
    list_total: int
    pay: int
    discounts: tuple[Discount, ...]


class PricedShipping(NamedTuple):
    """Shipping after pricing; fields as of `PricedLine`."""

    method: str
    list_total: int
    pay: int
    discounts: tuple[Discount, ...]


class GiftLine(NamedTuple):
    """Units given for nothing; `cost` is what they cost the shop, minor units."""

    offer_id: str
    sku: str
    quantity: int
    cost: int


class AppliedOffer(NamedTuple):
    """An offer that saved something or gave a gift.

    Attributes:
        offer_id: offer.
        version: its version.
        saving: minor units off: `sum(by_line) + shipping`.
        by_line: share of each line of the cart.
        shipping: share of shipping.
        gift_cost: minor units that its gift costs the shop.
    """

    offer_id: str
    version: int
    saving: int
    by_line: tuple[int, ...]
    shipping: int
    gift_cost: int


class RejectedOffer(NamedTuple):
    """An offer that did not apply, with its reason code."""

    offer_id: str
    reason: Reason


class Totals(NamedTuple):
    """Sums over the cart in minor units: `pay = list_total - saving + shipping - shipping_saving`.

    Attributes:
        list_total: goods before offers.
        saving: off the goods.
        shipping: shipping before offers.
        shipping_saving: off the shipping.
        pay: goods and shipping to pay.
        gift_cost: what gifts cost the shop.
    """

    list_total: int
    saving: int
    shipping: int
    shipping_saving: int
    pay: int
    gift_cost: int


@dataclass(frozen=True)
class PricedCart:
    """Outcome of `price_cart`.

    Attributes:
        lines: as in the cart.
        shipping: None if the cart had none.
        gifts: zero-priced lines that offers added.
        applied: offers that applied, in the order they did.
        rejected: the others, by offer id.
        totals: sums.
    """

    lines: tuple[PricedLine, ...]
    shipping: PricedShipping | None
    gifts: tuple[GiftLine, ...]
    applied: tuple[AppliedOffer, ...]
    rejected: tuple[RejectedOffer, ...]
    totals: Totals
