"""Mechanic `free_shipping`: shipping for nothing, or for less."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from promo_ray.offers.fields import Names, SomeMoney, validate
from promo_ray.offers.mechanics.base import Mechanic, Reward, Units
from promo_ray.offers.reasons import Reason
from promo_ray.registry import register


@register("free_shipping")
@dataclass(frozen=True, kw_only=True)
class FreeShipping(Mechanic):
    """All of the shipping off, at most `max_amount`.

    Attributes:
        max_amount: largest saving in minor units; None = no limit.
        methods: methods of shipping that it holds for; empty = all.
    """

    method = "free_shipping"
    layers = ("shipping",)

    max_amount: SomeMoney | None = None
    methods: Names = ()

    def __post_init__(self) -> None:
        validate(self, "free_shipping")

    def reward(self, units: Sequence[Units], base: str, spend_basis: str) -> Reward | Reason:
        """See `Mechanic.reward`; the only unit is the shipping, its item id the method."""
        if self.methods and units[0].line.item_id not in self.methods:
            return Reason.WRONG_METHOD
        return Reward((1,), (units[0].room,), limit=self.max_amount)

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """See `Mechanic.describe`."""
        by = f" by {', '.join(self.methods)}" if self.methods else ""
        limit = "" if self.max_amount is None else f", at most {money(self.max_amount)} off"
        return f"free shipping{by}{limit}"
