"""Mechanic `product_bundle`: certain items together at a better price."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from promo_ray.errors import DataError
from promo_ray.offers.mechanic import Reward, Units, given
from promo_ray.offers.money import FULL_BP, MAX_MONEY, check_int, half_up, scaled, unscaled
from promo_ray.registry import register


@register("product_bundle")
@dataclass(frozen=True)
class ProductBundle:
    """The named items together, `bp` off or at a fixed `price`, as often as the cart holds them.

    Of units of one item at different prices the dearest join first.

    Attributes:
        item_ids: items of one bundle, an item twice if two units belong to it; at least 2.
        bp: basis points off the bundle, 1 to 10,000; None with a price.
        price: minor units for one bundle; None with bp.
    """

    method: ClassVar[str] = "product_bundle"
    layer: ClassVar[str] = "item"

    item_ids: tuple[str, ...]
    bp: int | None = None
    price: int | None = None

    def __post_init__(self) -> None:
        if len(self.item_ids) < 2:
            raise DataError(
                f"must name at least 2 items; got {len(self.item_ids)}",
                where="product_bundle.item_ids",
            )
        if (self.bp is None) == (self.price is None):
            raise DataError("must have either bp or price", where="product_bundle")
        if self.bp is not None:
            check_int(self.bp, 1, FULL_BP, "product_bundle.bp")
        if self.price is not None:
            check_int(self.price, 0, MAX_MONEY, "product_bundle.price")

    def reward(self, units: Sequence[Units], base: str) -> Reward | str:
        """See `Mechanic.reward`."""
        need = Counter(self.item_ids)
        have = Counter[str]()
        for u in units:
            have[u.item_id] += u.quantity
        times = min(have[item] // n for item, n in need.items())
        if times == 0:
            return "bundle_incomplete"
        left = {item: n * times for item, n in need.items()}
        touched = [0] * len(units)
        for i in sorted(range(len(units)), key=lambda i: -units[i].basis(base)):
            item = units[i].item_id
            touched[i] = min(units[i].quantity, left.get(item, 0))
            left[item] = left.get(item, 0) - touched[i]
        total = sum(t * u.basis(base) for t, u in zip(touched, units, strict=True))
        return Reward(tuple(touched), self._saving(total, times))

    def _saving(self, total: int, times: int) -> int:
        if self.bp is not None:
            return total - half_up(total * (FULL_BP - self.bp), FULL_BP)
        return max(0, total - (self.price or 0) * times)

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """See `Mechanic.describe`."""
        names = " + ".join(self.item_ids)
        if self.bp is not None:
            return f"{self.bp / 100:g}% off {names} bought together"
        return f"{names} together for {money(self.price or 0)}"

    @classmethod
    def from_terms(cls, row: Mapping[str, Any], minor: Callable[[float], int]) -> ProductBundle:
        """See `Mechanic.from_terms`."""
        bp = scaled(given(row, "depth_rate"), 4, "product_bundle.depth_rate")
        return cls(item_ids=tuple(given(row, "item_ids")), bp=bp)

    def to_terms(self, major: Callable[[int], float]) -> dict[str, Any]:
        """See `Mechanic.to_terms`."""
        if self.bp is None:
            raise DataError("offer terms cannot hold a bundle price", where="product_bundle.price")
        return {"depth_rate": unscaled(self.bp, 4), "item_ids": list(self.item_ids)}
