"""Mechanic `gift`: something for nothing, while stock lasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from promo_ray.errors import DataError
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

    def chosen(self, offer_id: str, choice: Mapping[str, str]) -> str:
        """Sku that is given, by the choice of an offer id; see `Context.gift_choice`.

        Raises:
            DataError: it is none that the offer has.
        """
        skus = (self.sku, *self.choice_of)
        sku = choice.get(offer_id, self.sku)
        if sku not in skus:
            raise DataError(
                f"must be one of {', '.join(skus)}; got {sku!r}",
                where=f"context.gift_choice[{offer_id!r}]",
            )
        return sku

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """See `Mechanic.describe`."""
        times = "" if self.quantity == 1 else f"{self.quantity} x "
        return f"{times}{' or '.join((self.sku, *self.choice_of))} for free"
