"""Mechanic `tiered`: the more you spend or buy, the more you save."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from promo_ray.errors import DataError
from promo_ray.offers.fields import NOT_EMPTY, OneOf, Rate, SomeMoney, validate
from promo_ray.offers.mechanics.base import Mechanic, Reward, Units, given, percent
from promo_ray.offers.money import FULL_BP
from promo_ray.offers.reasons import Reason
from promo_ray.registry import register


@dataclass(frozen=True, kw_only=True)
class Tier:
    """From `min` on, `amount` off the order or `bp` off every unit in scope.

    Attributes:
        min: smallest spend in minor units, or smallest number of units.
        amount: minor units off; None with bp.
        bp: basis points off; None with amount.
    """

    min: SomeMoney
    amount: SomeMoney | None = None
    bp: Rate | None = None

    def __post_init__(self) -> None:
        validate(self, "tier")
        if (self.amount is None) == (self.bp is None):
            raise DataError("must have either amount or bp", where="tier.amount")


@register("tiered")
@dataclass(frozen=True, kw_only=True)
class Tiered(Mechanic):
    """The reward of the highest tier that is reached, or of all reached tiers together.

    What is counted are the units that the offer may touch: in scope, not closed by another.

    Attributes:
        tiers: by `min`, which must rise.
        basis: tiers count `spend`, at the prices that `Trigger.spend_basis` says, or `quantity`.
        cumulative: sum the rewards of all reached tiers instead of taking the highest.
        repeat_every: give the amount of the only tier again for every so much more; None = once.
    """

    method = "tiered"
    layers = ("order", "item")
    terms_name = "spend_threshold"

    tiers: Annotated[tuple[Tier, ...], NOT_EMPTY]
    basis: Annotated[str, OneOf(("spend", "quantity"))] = "spend"
    cumulative: bool = False
    repeat_every: SomeMoney | None = None

    def __post_init__(self) -> None:
        validate(self, "tiered")
        for i, (low, high) in enumerate(pairwise(self.tiers)):
            if low.min >= high.min:
                raise DataError(f"must rise; got {high.min}", where=f"tiered.tiers[{i + 1}].min")
        for i, tier in enumerate(self.tiers):
            if self.basis == "spend" and tier.amount is not None and tier.amount > tier.min:
                raise DataError(
                    f"must be at most min, {tier.min}; got {tier.amount}",
                    where=f"tiered.tiers[{i}].amount",
                )
        if self.cumulative and len({t.bp is None for t in self.tiers}) > 1:
            raise DataError("must all have amount or all bp to be summed", where="tiered.tiers")
        if self.repeat_every is not None and (len(self.tiers) > 1 or self.tiers[0].amount is None):
            raise DataError("needs one tier with an amount", where="tiered.repeat_every")

    def reward(self, units: Sequence[Units], base: str, spend_basis: str) -> Reward | Reason:
        """See `Mechanic.reward`."""
        every = [u.quantity for u in units]
        if self.basis == "quantity":
            reached = sum(every)
        elif spend_basis == "list":
            reached = sum(u.quantity * u.line.list_price for u in units)
        else:
            reached = sum(u.quantity * u.item_price for u in units)
        tiers = [tier for tier in self.tiers if tier.min <= reached]
        if not tiers:
            return Reason.BELOW_THRESHOLD
        paying = tiers if self.cumulative else tiers[-1:]
        if paying[0].bp is not None:
            bp = min(sum(tier.bp or 0 for tier in paying), FULL_BP)
            return Reward.share(units, every, bp, base)
        times = 1
        if self.repeat_every is not None:
            times += (reached - paying[0].min) // self.repeat_every
        return Reward.spread(units, every, times * sum(tier.amount or 0 for tier in paying))

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """See `Mechanic.describe`."""
        parts = []
        for tier in self.tiers:
            low = f"spend {money(tier.min)}" if self.basis == "spend" else f"buy {tier.min}"
            parts.append(
                f"{low} on {place}, save "
                + (money(tier.amount) if tier.amount is not None else percent(tier.bp or 0))
            )
        text = ("; and " if self.cumulative else "; ").join(parts)
        if self.repeat_every is not None:
            more = (
                money(self.repeat_every) if self.basis == "spend" else f"{self.repeat_every} units"
            )
            text += f", again for every {more} more"
        return text

    @classmethod
    def from_terms(cls, row: Mapping[str, Any], minor: Callable[[float], int]) -> Tiered:
        """See `Mechanic.from_terms`."""
        threshold, amount = minor(given(row, "threshold")), minor(given(row, "amount"))
        return cls(tiers=(Tier(min=threshold, amount=amount),))

    def to_terms(self, major: Callable[[int], float]) -> dict[str, Any]:
        """See `Mechanic.to_terms`."""
        only = self.tiers[0]
        is_plain = self == Tiered(tiers=(only,))
        if not is_plain or only.amount is None:
            raise DataError("offer terms hold one amount from one spend", where="tiered.tiers")
        return {"amount": major(only.amount), "threshold": major(only.min)}
