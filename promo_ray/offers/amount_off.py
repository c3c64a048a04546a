"""Mechanic `amount_off`: a fixed sum off the order, or off every unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from promo_ray.errors import DataError
from promo_ray.offers.mechanic import Reward, Units, given
from promo_ray.offers.money import MAX_MONEY, check_int
from promo_ray.registry import register


@register("amount_off")
@dataclass(frozen=True)
class AmountOff:
    """`amount` off the units in scope, never below zero.

    Attributes:
        amount: minor units off, >= 1.
        per: `order` spreads the amount over the scope once; `unit` takes it off every unit.
    """

    method: ClassVar[str] = "amount_off"
    layer: ClassVar[str] = "order"

    amount: int
    per: str = "order"

    def __post_init__(self) -> None:
        check_int(self.amount, 1, MAX_MONEY, "amount_off.amount")
        if self.per not in ("order", "unit"):
            raise DataError(f"must be order or unit; got {self.per!r}", where="amount_off.per")

    def reward(self, units: Sequence[Units], base: str) -> Reward | str:
        """See `Mechanic.reward`; the amount does not depend on the base."""
        touched = tuple(u.quantity for u in units)
        if self.per == "order":
            return Reward(touched, self.amount)
        off = tuple(min(self.amount, u.price) for u in units)
        return Reward(touched, sum(o * q for o, q in zip(off, touched, strict=True)), off)

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
