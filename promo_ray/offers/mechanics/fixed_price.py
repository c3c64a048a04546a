"""Mechanic `fixed_price`: every unit in scope at one price, a member or special price."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from promo_ray.offers.fields import Money, validate
from promo_ray.offers.mechanics.base import Mechanic, Reward, Units
from promo_ray.offers.reasons import Reason
from promo_ray.registry import register


@register("fixed_price")
@dataclass(frozen=True, kw_only=True)
class FixedPrice(Mechanic):
    """Each unit in scope at `price`; units that cost less stay as they are.

    Attributes:
        price: minor units for one unit, >= 0.
    """

    method = "fixed_price"
    layers = ("item", "order", "shipping")
    by_unit = True

    price: Money

    def __post_init__(self) -> None:
        validate(self, "fixed_price")

    def reward(self, units: Sequence[Units], base: str, spend_basis: str) -> Reward | Reason:
        """See `Mechanic.reward`."""
        off = tuple(min(max(0, u.basis(base) - self.price), u.room) for u in units)
        return Reward(tuple(u.quantity for u in units), off)

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """See `Mechanic.describe`."""
        return f"{place} at {money(self.price)}"
