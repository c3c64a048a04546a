"""Mechanic `percent_off`: a share off everything in scope."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promo_ray.errors import DataError
from promo_ray.offers.fields import Rate, SomeMoney, validate
from promo_ray.offers.mechanics.base import Mechanic, Reward, Units, given, percent
from promo_ray.offers.money import scaled, unscaled
from promo_ray.offers.reasons import Reason
from promo_ray.registry import register


@register("percent_off")
@dataclass(frozen=True, kw_only=True)
class PercentOff(Mechanic):
    """`bp` basis points off the units in scope, at most `max_amount` per order.

    Attributes:
        bp: basis points off, 1 to 10,000.
        max_amount: largest saving per order in minor units; None = no limit.
    """

    method = "percent_off"
    layers = ("item", "order", "shipping")
    by_unit = True
    terms_name = "percent_off"

    bp: Rate
    max_amount: SomeMoney | None = None

    def __post_init__(self) -> None:
        validate(self, "percent_off")

    def reward(self, units: Sequence[Units], base: str, spend_basis: str) -> Reward | Reason:
        """See `Mechanic.reward`."""
        every = [u.quantity for u in units]
        return Reward.share(units, every, self.bp, base, limit=self.max_amount)

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """See `Mechanic.describe`."""
        limit = "" if self.max_amount is None else f", at most {money(self.max_amount)}"
        return f"{percent(self.bp)} off {place}{limit}"

    @classmethod
    def from_terms(cls, row: Mapping[str, Any], minor: Callable[[float], int]) -> PercentOff:
        """See `Mechanic.from_terms`."""
        return cls(bp=scaled(given(row, "depth_rate"), 4, "percent_off.depth_rate"))

    def to_terms(self, major: Callable[[int], float]) -> dict[str, Any]:
        """See `Mechanic.to_terms`."""
        if self.max_amount is not None:
            raise DataError("offer terms cannot hold a max_amount", where="percent_off.max_amount")
        return {"depth_rate": unscaled(self.bp, 4)}
