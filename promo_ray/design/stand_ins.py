"""Offers of mechanics that no response surface knows, predicted by those that stand in for them.

A surface knows percentages, amounts, spend thresholds and bundles. Three more are worth money that
can be told, and are predicted by an amount off of that worth. That a customer is moved by a gift or
by free shipping as by money off is an assumption: no log of these data has shown it, so none of
these offers counts as tried or as between tried ones.

- free_shipping: the fee off one order, or off an order from a threshold on.
- gift: moves like its perceived value off, costs its unit cost on every order that would redeem
  that amount, however much of it the order could take off.
- tiered: moves like the best single one of its steps alone, which is the least that the choice
  between steps can do; costs what all steps give, each its amount beyond the step before.

A price of its own (fixed_price) and a choice of units (buy_get) change with what is in the basket,
which offer terms and surface know nothing of; they are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.config import config_class
from promo_ray.design.columns import Surface
from promo_ray.errors import ConfigError
from promo_ray.offers import FreeShipping, Gift, Mechanic, Offer, Tier, Tiered, Trigger
from promo_ray.offers.money import minor_digits, scaled, text_of
from promo_ray.response.model import EffectEstimate
from promo_ray.response.surface import SurfaceEffects

SomeMoney = Annotated[float, Field(gt=0)]


@config_class
class ShippingOffer:
    """Free shipping of one order.

    Attributes:
        fee: what shipping of an order costs the customer, currency units.
        threshold: smallest order, currency units; None = any.
        contact_cost: currency units to send the offer to one user.
    """

    fee: SomeMoney
    threshold: SomeMoney | None = None
    contact_cost: Annotated[float, Field(ge=0)] = 0.0


@config_class
class GiftOffer:
    """A gift with one order.

    Attributes:
        sku: what is given.
        unit_cost: what it costs the shop, currency units.
        perceived_value: what it is worth to a customer, currency units.
        threshold: smallest order, currency units, at least the perceived value; None = any.
        contact_cost: currency units to send the offer to one user.
    """

    sku: Annotated[str, Field(min_length=1)]
    unit_cost: Annotated[float, Field(ge=0)]
    perceived_value: SomeMoney
    threshold: SomeMoney | None = None
    contact_cost: Annotated[float, Field(ge=0)] = 0.0

    def __post_init__(self) -> None:
        if self.threshold is not None and self.perceived_value > self.threshold:
            raise ConfigError(f"perceived_value must be at most the threshold; got {self}")


@config_class
class Step:
    """From `threshold` on `amount` off the order, both in currency units."""

    threshold: SomeMoney
    amount: SomeMoney


@config_class
class TieredOffer:
    """The more is spent in one order, the more comes off.

    Attributes:
        steps: at least two, thresholds and amounts rising.
        contact_cost: currency units to send the offer to one user.
    """

    steps: Annotated[tuple[Step, ...], Field(min_length=2)]
    contact_cost: Annotated[float, Field(ge=0)] = 0.0

    def __post_init__(self) -> None:
        for low, high in pairwise(self.steps):
            if low.threshold >= high.threshold or low.amount >= high.amount:
                raise ConfigError(f"steps must rise in threshold and amount; got {self.steps}")
        for step in self.steps:
            if step.amount >= step.threshold:
                raise ConfigError(f"amount must be below its threshold; got {step}")


@dataclass(frozen=True)
class StandIn:
    """An offer with what predicts it.

    Attributes:
        row: of `OFFER_TERMS`: its own mechanic and name, the amount and threshold that rules of
            depth are held against.
        offer: as a shop executes it.
        effect_rows: rows whose largest gross effect is taken for its own.
        cost_rows: rows whose discounts add up to its own.
        unit_cost: what an order costs that redeems it, currency units; None = its discount.
    """

    row: Mapping[str, Any]
    offer: Offer
    effect_rows: tuple[Mapping[str, Any], ...]
    cost_rows: tuple[Mapping[str, Any], ...]
    unit_cost: float | None = None

    def named(self, offer_id: str) -> StandIn:
        """The same by another id."""
        row = {**self.row, "offer_id": offer_id}
        return replace(self, row=row, offer=replace(self.offer, id=offer_id))

    def cost_rate(self, basket: NDArray[np.float64]) -> NDArray[np.float64] | float:
        """What is paid for each unit of money that the discounts tell, one for all or `(n,)`."""
        if self.unit_cost is None:
            return 1.0
        off = float(self.cost_rows[0]["amount"])
        if self.row["threshold"] is None:  # no order gives more than itself off
            return self.unit_cost / np.where(basket > 0, np.minimum(off, basket), off)
        return self.unit_cost / off


def free_shipping(offer: ShippingOffer, currency: str) -> StandIn:
    """Free shipping as its fee off."""
    off = _row("free_shipping", offer.contact_cost, offer.fee, offer.threshold)
    own = (_money_off(off, offer.fee, offer.threshold),)
    return _stand_in(off, FreeShipping(), currency, own, own)


def gift(offer: GiftOffer, currency: str) -> StandIn:
    """A gift as its perceived value off, at its unit cost wherever that is redeemed."""
    row = _row(f"gift-{offer.sku}", offer.contact_cost, offer.unit_cost, offer.threshold)
    row["mechanic"] = "gift"
    mechanic = Gift(sku=offer.sku, unit_cost=_minor(offer.unit_cost, currency))
    own = (_money_off(row, offer.perceived_value, offer.threshold),)
    return _stand_in(row, mechanic, currency, own, own, offer.unit_cost)


def tiered(offer: TieredOffer, currency: str) -> StandIn:
    """Steps as spend thresholds: the effect of the best one, the discounts of all."""
    deepest = max(offer.steps, key=lambda s: s.amount / s.threshold)
    row = _row("tiered", offer.contact_cost, deepest.amount, deepest.threshold)
    row["offer_id"] = "-".join(
        ["tiered", *(f"{s.threshold:.15g}-{s.amount:.15g}" for s in offer.steps)]
    )
    tiers = tuple(
        Tier(min=_minor(s.threshold, currency), amount=_minor(s.amount, currency))
        for s in offer.steps
    )
    first = offer.steps[0]
    more = [(first.threshold, first.amount)]
    more += [(b.threshold, b.amount - a.amount) for a, b in pairwise(offer.steps)]
    return _stand_in(
        row,
        Tiered(tiers=tiers),
        currency,
        tuple(_money_off(row, s.amount, s.threshold) for s in offer.steps),
        tuple(_money_off(row, amount, threshold) for threshold, amount in more),
    )


def _minor(amount: float, currency: str) -> int:
    return scaled(amount, minor_digits(currency), "amount")


def _row(name: str, contact: float, amount: float, threshold: float | None) -> dict[str, Any]:
    own = name if threshold is None else f"{name}-{threshold:.15g}"
    row: dict[str, Any] = dict.fromkeys(OFFER_TERMS.names)
    row |= {"offer_id": own, "mechanic": name, "contact_cost": contact}
    return row | {"amount": amount, "threshold": threshold, "label": ""}


def _money_off(row: Mapping[str, Any], amount: float, threshold: float | None) -> dict[str, Any]:
    mechanic = "amount_off" if threshold is None else "spend_threshold"
    return {**row, "mechanic": mechanic, "amount": amount, "threshold": threshold}


def _stand_in(
    row: dict[str, Any],
    mechanic: Mechanic,
    currency: str,
    effect_rows: tuple[Mapping[str, Any], ...],
    cost_rows: tuple[Mapping[str, Any], ...],
    unit_cost: float | None = None,
) -> StandIn:
    threshold = row["threshold"]
    is_tiered = isinstance(mechanic, Tiered)
    least = None if threshold is None or is_tiered else _minor(threshold, currency)
    offer = Offer(
        id=row["offer_id"], currency=currency, mechanic=mechanic, trigger=Trigger(min_spend=least)
    )
    words = offer.describe() + ("" if least is None else f" from {text_of(least, currency)} on")
    return StandIn({**row, "label": words}, offer, effect_rows, cost_rows, unit_cost)


@dataclass(frozen=True)
class StandInSurface:
    """A surface that also predicts offers by their stand-ins.

    Attributes:
        surface: predicts all others.
        stand_ins: by offer id.
        is_net: the surface's `EffectEstimate` is net of the discount.
    """

    surface: Surface
    stand_ins: Mapping[str, StandIn] = field(default_factory=dict)
    is_net: bool = True

    def effects(
        self, x: NDArray[np.float64], basket: NDArray[np.float64], offers: pa.Table
    ) -> SurfaceEffects | EffectEstimate:
        """See `Surface.effects`."""
        needed: list[Mapping[str, Any]] = []
        places, rates = [], []
        for row in offers.to_pylist():
            stand_in = self.stand_ins.get(row["offer_id"])
            effect_rows = (row,) if stand_in is None else stand_in.effect_rows
            cost_rows = effect_rows if stand_in is None else stand_in.cost_rows
            own = _add(needed, effect_rows)
            places.append((own, own if cost_rows is effect_rows else _add(needed, cost_rows)))
            rates.append(1.0 if stand_in is None else stand_in.cost_rate(basket))
        found = self.surface.effects(x, basket, pa.Table.from_pylist(needed, schema=OFFER_TERMS))
        discount = found.discount
        is_gross = isinstance(found, SurfaceEffects)
        gross = found[0] if is_gross or not self.is_net else found[0] + discount
        effect = np.stack([gross[:, p].max(axis=1) for p, _ in places], axis=1)
        costs = zip(places, rates, strict=True)
        given = np.stack([discount[:, p].sum(axis=1) * rate for (_, p), rate in costs], axis=1)
        if is_gross:
            return SurfaceEffects(effect, given)
        return EffectEstimate(effect - given if self.is_net else effect, given)


def _add(rows: list[Mapping[str, Any]], more: Sequence[Mapping[str, Any]]) -> slice:
    rows += more
    return slice(len(rows) - len(more), len(rows))
