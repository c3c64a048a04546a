"""Mechanic `spend_threshold`: spend X, save Y."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from promo_ray.errors import DataError
from promo_ray.offers.mechanic import Reward, Units, given
from promo_ray.offers.money import MAX_MONEY, check_int
from promo_ray.registry import register


@register("spend_threshold")
@dataclass(frozen=True)
class SpendThreshold:
    """`amount` off once the spend in scope reaches `threshold`.

    Attributes:
        threshold: smallest spend in minor units, >= 1.
        amount: minor units off, 1 to `threshold`.
        spend_basis: spend at `list` prices or `after_item` offers.
    """

    method: ClassVar[str] = "spend_threshold"
    layer: ClassVar[str] = "order"

    threshold: int
    amount: int
    spend_basis: str = "after_item"

    def __post_init__(self) -> None:
        check_int(self.threshold, 1, MAX_MONEY, "spend_threshold.threshold")
        check_int(self.amount, 1, self.threshold, "spend_threshold.amount")
        if self.spend_basis not in ("list", "after_item"):
            raise DataError(
                f"must be list or after_item; got {self.spend_basis!r}",
                where="spend_threshold.spend_basis",
            )

    def reward(self, units: Sequence[Units], base: str) -> Reward | str:
        """See `Mechanic.reward`; the amount does not depend on the base."""
        at_list = self.spend_basis == "list"
        spend = sum(u.quantity * (u.list_price if at_list else u.price) for u in units)
        if spend < self.threshold:
            return "below_threshold"
        return Reward(tuple(u.quantity for u in units), self.amount)

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """See `Mechanic.describe`."""
        return f"spend {money(self.threshold)} on {place}, save {money(self.amount)}"

    @classmethod
    def from_terms(cls, row: Mapping[str, Any], minor: Callable[[float], int]) -> SpendThreshold:
        """See `Mechanic.from_terms`."""
        threshold, amount = minor(given(row, "threshold")), minor(given(row, "amount"))
        return cls(threshold=threshold, amount=amount)

    def to_terms(self, major: Callable[[int], float]) -> dict[str, Any]:
        """See `Mechanic.to_terms`."""
        if self.spend_basis != "after_item":
            raise DataError(
                "offer terms hold thresholds after item offers only",
                where="spend_threshold.spend_basis",
            )
        return {"amount": major(self.amount), "threshold": major(self.threshold)}
