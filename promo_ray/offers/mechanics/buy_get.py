"""Mechanic `buy_get`: buy some units, get others cheaper or for nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from promo_ray.offers.fields import Count, OneOf, Rate, validate
from promo_ray.offers.mechanics.base import Mechanic, Reward, Slot, Units, percent
from promo_ray.offers.money import FULL_BP
from promo_ray.offers.reasons import Reason
from promo_ray.registry import register


@register("buy_get")
@dataclass(frozen=True, kw_only=True)
class BuyGet(Mechanic):
    """For every `buy` in the cart, `get` at `bp` off: one and one, two plus one, second at half.

    A unit is used once, as bought or as got. It is done as often as the units allow; among all
    ways to do it so often, the units got are the cheapest (or dearest) together. Units whose price
    is already zero are never got.

    Attributes:
        buy: units that must be paid as they are; those that cost nothing buy nothing.
        get: units that get cheaper.
        bp: basis points off a unit got; 10,000 = free.
        pick: `cheapest` or `dearest` units of the `get` scope are got.
        max_times: largest number of times per order; None = no limit.
    """

    method = "buy_get"
    layers = ("item", "order")

    buy: Slot = field(default_factory=Slot)
    get: Slot = field(default_factory=Slot)
    bp: Rate = FULL_BP
    pick: Annotated[str, OneOf(("cheapest", "dearest"))] = "cheapest"
    max_times: Count | None = None

    def __post_init__(self) -> None:
        validate(self, "buy_get")

    def reward(self, units: Sequence[Units], base: str, spend_basis: str) -> Reward | Reason:
        """See `Mechanic.reward`.

        With b units to buy of nb, g to get of ng, and n units in either scope, Hall's theorem
        allows min(nb // b, ng // g, n // (b + g)) times. The got units then are a basis of a
        partition matroid (at most nb - times * b of them may be of the buy scope), so the greedy
        choice by price is the best one.
        """
        to_buy = [u.quantity if u.price > 0 and self.buy.holds(u.line) else 0 for u in units]
        to_get = [u.quantity if u.price > 0 and self.get.holds(u.line) else 0 for u in units]
        n_buy, n_get = sum(to_buy), sum(to_get)
        n_either = sum(max(b, g) for b, g in zip(to_buy, to_get, strict=True))
        times = min(
            n_buy // self.buy.quantity,
            n_get // self.get.quantity,
            n_either // (self.buy.quantity + self.get.quantity),
        )
        times = times if self.max_times is None else min(times, self.max_times)
        if times == 0:
            return Reason.TOO_FEW_UNITS
        sign = 1 if self.pick == "cheapest" else -1
        order = sorted(range(len(units)), key=lambda i: sign * units[i].basis(base))
        got, wanted = [0] * len(units), times * self.get.quantity
        spare = n_buy - times * self.buy.quantity
        for i in order:
            got[i] = min(to_get[i], wanted, spare if to_buy[i] else wanted)
            wanted -= got[i]
            spare -= got[i] if to_buy[i] else 0
        bought, wanted = [0] * len(units), times * self.buy.quantity
        for i in sorted(range(len(units)), key=lambda i: -units[i].basis(base)):
            bought[i] = min(max(to_buy[i] - got[i], 0), wanted)
            wanted -= bought[i]
        return Reward.share(units, got, self.bp, base, used=tuple(bought))

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """See `Mechanic.describe`."""
        what = "for free" if self.bp == FULL_BP else f"at {percent(self.bp)} off"
        times = "once" if self.max_times == 1 else f"{self.max_times} times"
        limit = "" if self.max_times is None else f", at most {times}"
        return f"buy {self.buy.describe()}, get {self.get.describe()} {what} ({self.pick}){limit}"
