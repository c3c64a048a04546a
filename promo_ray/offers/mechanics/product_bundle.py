"""Mechanic `product_bundle`: certain items together at a better price."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from promo_ray.errors import DataError
from promo_ray.offers.fields import NOT_EMPTY, Count, Money, Rate, SomeMoney, validate
from promo_ray.offers.mechanics.base import Mechanic, Reward, Slot, Units, given, percent
from promo_ray.offers.mechanics.matching import dearest_sets, most_sets
from promo_ray.offers.money import scaled, unscaled
from promo_ray.offers.reasons import Reason
from promo_ray.offers.scope import Scope
from promo_ray.registry import register


@register("product_bundle")
@dataclass(frozen=True, kw_only=True)
class ProductBundle(Mechanic):
    """One of each slot together: `bp` off, `amount` off, or all at `price`.

    Bundles are made as often as the cart allows, a unit in one of them only, of the dearest units
    that can make so many; with a price, only as often as it saves something.

    Attributes:
        slots: what one bundle holds; at least 2 units in all.
        bp: basis points off the bundle.
        amount: minor units off each bundle.
        price: minor units for each bundle. Exactly one of bp, amount and price is given.
        max_times: largest number of bundles per order; None = no limit.
    """

    method = "product_bundle"
    layers = ("item", "order")
    terms_name = "product_bundle"

    slots: Annotated[tuple[Slot, ...], NOT_EMPTY]
    bp: Rate | None = None
    amount: SomeMoney | None = None
    price: Money | None = None
    max_times: Count | None = None

    def __post_init__(self) -> None:
        validate(self, "product_bundle")
        if sum(slot.quantity for slot in self.slots) < 2:
            raise DataError("must hold at least 2 units", where="product_bundle.slots")
        if sum(v is not None for v in (self.bp, self.amount, self.price)) != 1:
            raise DataError("must have one of bp, amount and price", where="product_bundle")

    @classmethod
    def of_items(cls, *item_ids: str, **reward: int) -> ProductBundle:
        """Bundle of single items; an item named twice makes two units."""
        slots = tuple(
            Slot(scope=Scope.of(products=(item,)), quantity=n)
            for item, n in Counter(item_ids).items()
        )
        return cls(slots=slots, **reward)

    def reward(self, units: Sequence[Units], base: str, spend_basis: str) -> Reward | Reason:
        """See `Mechanic.reward`."""
        fits = [[slot.holds(u.line) for slot in self.slots] for u in units]
        have = [u.quantity for u in units]
        need = [slot.quantity for slot in self.slots]
        price = [u.basis(base) for u in units]
        most = most_sets(fits, have, need)
        most = most if self.max_times is None else min(most, self.max_times)
        if most == 0:
            return Reason.BUNDLE_INCOMPLETE

        def saving(times: int) -> int:
            taken = dearest_sets(fits, have, need, price, times)
            total = sum(n * p for n, p in zip(taken, price, strict=True))
            return total - times * (self.price or 0)

        if self.price is not None:
            # the total of the dearest sets is concave in their number: search the top
            low, high = 0, most
            while low < high:
                middle = (low + high) // 2
                if saving(middle + 1) > saving(middle):
                    low = middle + 1
                else:
                    high = middle
            if low == 0:
                return Reason.NOTHING_LEFT
            amount, times = saving(low), low
        else:
            amount, times = most * (self.amount or 0), most
        taken = dearest_sets(fits, have, need, price, times)
        if self.bp is not None:
            return Reward.share(units, taken, self.bp, base)
        return Reward.spread(units, taken, amount)

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """See `Mechanic.describe`."""
        names = " + ".join(slot.describe() for slot in self.slots)
        if self.bp is not None:
            return f"{percent(self.bp)} off {names} bought together"
        if self.amount is not None:
            return f"{money(self.amount)} off {names} bought together"
        return f"{names} together for {money(self.price or 0)}"

    @classmethod
    def from_terms(cls, row: Mapping[str, Any], minor: Callable[[float], int]) -> ProductBundle:
        """See `Mechanic.from_terms`."""
        bp = scaled(given(row, "depth_rate"), 4, "product_bundle.depth_rate")
        return cls.of_items(*given(row, "item_ids"), bp=bp)

    def to_terms(self, major: Callable[[int], float]) -> dict[str, Any]:
        """See `Mechanic.to_terms`."""
        if self.bp is None or self.max_times is not None:
            raise DataError("offer terms hold bundles with bp alone", where="product_bundle.bp")
        items: list[str] = []
        for slot in self.slots:
            products = slot.scope.include.products
            if len(products) != 1 or slot.scope != Scope.of(products=products):
                raise DataError("offer terms hold slots of one item", where="product_bundle.slots")
            items += products * slot.quantity
        return {"depth_rate": unscaled(self.bp, 4), "item_ids": items}
