"""Mechanic `percent_off`: a share off everything in scope."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from promo_ray.errors import DataError
from promo_ray.offers.mechanic import Reward, Units, given
from promo_ray.offers.money import FULL_BP, MAX_MONEY, check_int, half_up, scaled, unscaled
from promo_ray.registry import register


@register("percent_off")
@dataclass(frozen=True)
class PercentOff:
    """`bp` basis points off the units in scope, at most `max_amount` per order.

    The price to pay is exact on the sum over all units and rounded half up once.

    Attributes:
        bp: basis points off, 1 to 10,000.
        max_amount: largest saving per order in minor units; None = no limit.
    """

    method: ClassVar[str] = "percent_off"
    layer: ClassVar[str] = "item"

    bp: int
    max_amount: int | None = None

    def __post_init__(self) -> None:
        check_int(self.bp, 1, FULL_BP, "percent_off.bp")
        if self.max_amount is not None:
            check_int(self.max_amount, 1, MAX_MONEY, "percent_off.max_amount")

    def reward(self, units: Sequence[Units], base: str) -> Reward | str:
        """See `Mechanic.reward`."""
        total = sum(u.quantity * u.basis(base) for u in units)
        saving = total - half_up(total * (FULL_BP - self.bp), FULL_BP)
        if self.max_amount is not None:
            saving = min(saving, self.max_amount)
        return Reward(tuple(u.quantity for u in units), saving)

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """See `Mechanic.describe`."""
        limit = "" if self.max_amount is None else f", at most {money(self.max_amount)}"
        return f"{self.bp / 100:g}% off {place}{limit}"

    @classmethod
    def from_terms(cls, row: Mapping[str, Any], minor: Callable[[float], int]) -> PercentOff:
        """See `Mechanic.from_terms`."""
        return cls(bp=scaled(given(row, "depth_rate"), 4, "percent_off.depth_rate"))

    def to_terms(self, major: Callable[[int], float]) -> dict[str, Any]:
        """See `Mechanic.to_terms`."""
        if self.max_amount is not None:
            raise DataError("offer terms cannot hold a max_amount", where="percent_off.max_amount")
        return {"depth_rate": unscaled(self.bp, 4)}
