"""Mechanic `amount_off`: a fixed sum off the order, or off every unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from promo_ray.errors import DataError
from promo_ray.offers.fields import OneOf, SomeMoney, validate
from promo_ray.offers.mechanics.base import Mechanic, Reward, Units, given
from promo_ray.offers.reasons import Reason
from promo_ray.registry import register


@register("amount_off")
@dataclass(frozen=True, kw_only=True)
class AmountOff(Mechanic):
    """`amount` off the units in scope, never below zero.

    Attributes:
        amount: minor units off, >= 1.
        per: `order` spreads the amount over the scope once; `unit` takes it off every unit.
    """

    method = "amount_off"
    layers = ("order", "item", "shipping")
    by_unit = True
    terms_name = "amount_off"

    amount: SomeMoney
    per: Annotated[str, OneOf(("order", "unit"))] = "order"

    def __post_init__(self) -> None:
        validate(self, "amount_off")

    def reward(self, units: Sequence[Units], base: str, spend_basis: str) -> Reward | Reason:
        """See `Mechanic.reward`; the amount does not depend on the base."""
        every = tuple(u.quantity for u in units)
        if self.per == "order":
            return Reward.spread(units, every, self.amount)
        return Reward(every, tuple(min(self.amount, u.room) for u in units))

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """See `Mechanic.describe`."""
        each = " for every unit" if self.per == "unit" else ""
        return f"{money(self.amount)} off {place}{each}"

    @classmethod
    def from_terms(cls, row: Mapping[str, Any], minor: Callable[[float], int]) -> AmountOff:
        """See `Mechanic.from_terms`."""
        return cls(amount=minor(given(row, "amount")))

    def to_terms(self, major: Callable[[int], float]) -> dict[str, Any]:
        """See `Mechanic.to_terms`."""
        if self.per != "order":
            raise DataError("offer terms hold amounts per order only", where="amount_off.per")
        return {"amount": major(self.amount)}
