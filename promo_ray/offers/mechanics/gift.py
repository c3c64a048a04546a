"""Mechanic `gift`: something for nothing, while stock lasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from promo_ray.offers.fields import Count, Money, Name, Names, validate
from promo_ray.offers.mechanics.base import Mechanic
from promo_ray.registry import register


@register("gift")
@dataclass(frozen=True, kw_only=True)
class Gift(Mechanic):
    """A line at price zero, added after all discounts if it is in stock.

    Attributes:
        sku: what is given.
        quantity: units.
        unit_cost: minor units that one unit costs the shop; counts against the caps in money.
        choice_of: skus that may be chosen instead, see `Context.gift_choice`.
    """

    method = "gift"
    layers = ("order",)

    sku: Name
    quantity: Count = 1
    unit_cost: Money = 0
    choice_of: Names = ()

    def __post_init__(self) -> None:
        validate(self, "gift")

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """See `Mechanic.describe`."""
        times = "" if self.quantity == 1 else f"{self.quantity} x "
        return f"{times}{' or '.join((self.sku, *self.choice_of))} for free"
