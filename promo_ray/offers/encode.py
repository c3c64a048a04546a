"""Offers as flat columns of integers, which `_kernel.c` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from promo_ray.offers.cart_batch import CartBatch
from promo_ray.offers.mechanics.amount_off import AmountOff
from promo_ray.offers.mechanics.base import Slot
from promo_ray.offers.mechanics.buy_get import BuyGet
from promo_ray.offers.mechanics.fixed_price import FixedPrice
from promo_ray.offers.mechanics.free_shipping import FreeShipping
from promo_ray.offers.mechanics.gift import Gift
from promo_ray.offers.mechanics.message import Message
from promo_ray.offers.mechanics.percent_off import PercentOff
from promo_ray.offers.mechanics.product_bundle import ProductBundle
from promo_ray.offers.mechanics.tiered import Tiered
from promo_ray.offers.offer import Offer
from promo_ray.offers.reasons import Reason
from promo_ray.offers.scope import Scope, ScopeBits
from promo_ray.offers.terms import LAYERS

# reason codes of the columns: place in REASONS + 1
REASONS = tuple(Reason)
CODE_OF = {reason: i + 1 for i, reason in enumerate(REASONS)}
KERNEL_REASONS = (  # in the order of the kernel
    Reason.BUDGET_SPENT, Reason.USES_SPENT, Reason.USER_USES_SPENT, Reason.USER_MONEY_SPENT,
    Reason.GROUP_TAKEN, Reason.GROUP_BEATEN, Reason.LAYER_CLOSED, Reason.NOT_COMBINABLE,
    Reason.BELOW_MIN_SPEND, Reason.BELOW_MIN_UNITS, Reason.NO_SHIPPING, Reason.WRONG_METHOD,
    Reason.NOT_IN_SCOPE, Reason.CLOSED, Reason.COST_UNKNOWN, Reason.BELOW_THRESHOLD,
    Reason.BUNDLE_INCOMPLETE, Reason.TOO_FEW_UNITS, Reason.NO_PRICE_CHANGE,
    Reason.GIFT_OUT_OF_STOCK, Reason.NOTHING_LEFT,
)  # fmt: skip
_KINDS = (  # in the order of the kernel
    Message, PercentOff, AmountOff, FixedPrice, Tiered, ProductBundle, BuyGet, FreeShipping, Gift
)  # fmt: skip
_IN_GROUP = ("all", "first", "best", "smallest")
OFFER = (  # all int64; -1 = none
    "column kind layer scope max_units "
    "has_needs need_scope min_spend min_units by_list "
    "group in_group is_exclusive is_stop combines is_initial id_rank "
    "floor_price margin_bp per_order budget uses user_uses user_money period "
    "bp amount price limit is_per_unit is_dearest max_times "
    "is_quantity is_cumulative repeat_every first count gift gift_quantity gift_cost"
).split()
_FLAGS = "is_per_unit is_dearest is_quantity is_cumulative".split()
_UNSAID = {**dict.fromkeys(OFFER), **dict.fromkeys(_FLAGS, 0)}
_ALL = Scope()
_MAX_SLOTS = 64
_MAX_OFFERS = 2**15 - 1  # places of outcomes are int16


@dataclass(frozen=True)
class EncodedOffers:
    """Offers in the order the kernel takes them.

    Attributes:
        rows: `(n_offers, n_fields)` int64 with the fields of `OFFER`; `column` is the place in the
            caller's order.
        tiers: `(n_tiers, 3)` int64: min, amount or basis points, whether the latter.
        slots: `(n_slots, 2)` int64: number in `scopes` or -1, units.
        scopes: distinct scopes, without their `max_units`.
        skips: `(n_words,)` uint64, bit s for a scope that skips items on sale.
        gifts: offers with a gift, in the order of `OFFER.gift`.
        periods: distinct (period, time zone) that caps are counted over, other than `total`.
        n_groups: number of groups.
    """

    rows: NDArray[np.int64]
    tiers: NDArray[np.int64]
    slots: NDArray[np.int64]
    scopes: ScopeBits
    skips: NDArray[np.uint64]
    gifts: tuple[Offer, ...]
    periods: tuple[tuple[str, str], ...]
    n_groups: int


class _Numbers(dict[object, int]):
    """Numbers of distinct things, in the order they are first met."""

    def __missing__(self, key: object) -> int:
        self[key] = len(self)
        return self[key]


class _Encoder:
    def __init__(self) -> None:
        self.tiers: list[tuple[int, int, int]] = []
        self.slots: list[tuple[int, int]] = []
        self.gifts: list[Offer] = []
        self.scopes: dict[Scope, int] = {}
        self.groups, self.periods = _Numbers(), _Numbers()

    def scope(self, scope: Scope) -> int:
        if scope.is_all:
            return -1
        if scope.max_units is not None:
            scope = replace(scope, max_units=None)
        return self.scopes.setdefault(scope, len(self.scopes))

    def row(self, offer: Offer) -> dict[str, int | None]:
        stacking, caps, trigger = offer.stacking, offer.caps, offer.trigger
        return {
            "kind": _KINDS.index(type(offer.mechanic)),
            "layer": LAYERS.index(offer.layer),
            "scope": self.scope(offer.scope),
            "max_units": offer.scope.max_units,
            "has_needs": any(
                need is not None
                for need in (trigger.min_spend, trigger.min_units, trigger.required_scope)
            ),
            "need_scope": self.scope(trigger.required_scope or _ALL),
            "min_spend": trigger.min_spend,
            "min_units": trigger.min_units,
            "by_list": trigger.spend_basis == "list",
            "group": None if stacking.group is None else self.groups[stacking.group],
            "in_group": _IN_GROUP.index(stacking.in_group),
            "is_exclusive": stacking.exclusive,
            "is_stop": stacking.stop,
            "combines": sum(1 << LAYERS.index(layer) for layer in set(stacking.combines_with)),
            "is_initial": stacking.base == "initial",
            "floor_price": caps.floor_price,
            "margin_bp": caps.min_margin_bp,
            "per_order": caps.per_order_money,
            "budget": caps.budget,
            "uses": caps.uses,
            "user_uses": caps.uses_per_user,
            "user_money": caps.per_user_money,
            "period": None
            if caps.period == "total"
            else self.periods[caps.period, offer.window.timezone],
            **self.mechanic(offer),
        }

    def mechanic(self, offer: Offer) -> dict[str, int | None]:
        kind = offer.mechanic
        if isinstance(kind, PercentOff):
            return {"bp": kind.bp, "limit": kind.max_amount}
        if isinstance(kind, AmountOff):
            return {"amount": kind.amount, "is_per_unit": kind.per == "unit"}
        if isinstance(kind, FixedPrice):
            return {"price": kind.price}
        if isinstance(kind, FreeShipping):
            return {"limit": kind.max_amount}
        if isinstance(kind, Tiered):
            first = len(self.tiers)
            self.tiers += [
                (t.min, t.amount or 0, 0) if t.bp is None else (t.min, t.bp, 1) for t in kind.tiers
            ]
            return {
                "is_quantity": kind.basis == "quantity",
                "is_cumulative": kind.cumulative,
                "repeat_every": kind.repeat_every,
                "first": first,
                "count": len(kind.tiers),
            }
        if isinstance(kind, ProductBundle):
            parts = {"bp": kind.bp, "amount": kind.amount, "price": kind.price}
            return {**parts, "max_times": kind.max_times, **self.placed(kind.slots)}
        if isinstance(kind, BuyGet):
            slots = self.placed((kind.buy, kind.get))
            is_dearest = kind.pick == "dearest"
            return {
                "bp": kind.bp, "is_dearest": is_dearest, "max_times": kind.max_times, **slots
            }  # fmt: skip
        if isinstance(kind, Gift):
            self.gifts.append(offer)
            cost = kind.quantity * kind.unit_cost
            number = len(self.gifts) - 1
            return {"gift": number, "gift_quantity": kind.quantity, "gift_cost": cost}
        return {}

    def placed(self, slots: Sequence[Slot]) -> dict[str, int | None]:
        first = len(self.slots)
        self.slots += [(self.scope(slot.scope), slot.quantity) for slot in slots]
        return {"first": first, "count": len(slots)}


def is_encodable(offers: Sequence[Offer]) -> bool:
    """Whether the kernel knows all that the offers use; mechanics of plug-ins it does not."""
    return len(offers) <= _MAX_OFFERS and all(
        type(o.mechanic) in _KINDS
        and not (isinstance(o.mechanic, ProductBundle) and len(o.mechanic.slots) > _MAX_SLOTS)
        and not (
            isinstance(o.mechanic, Gift) and o.mechanic.quantity * o.mechanic.unit_cost >= 2**62
        )
        for o in offers
    )


def encode(offers: Sequence[Offer]) -> EncodedOffers:
    """Columns of offers for which `is_encodable` holds."""
    encoder = _Encoder()
    rank = {offer_id: i for i, offer_id in enumerate(sorted(o.id for o in offers))}

    def turn(j: int) -> tuple[int, tuple[int, str]]:  # gifts come last
        offer = offers[j]
        is_gift = isinstance(offer.mechanic, Gift)
        return len(LAYERS) if is_gift else LAYERS.index(offer.layer), offer.order

    rows = [
        {**_UNSAID, **encoder.row(offers[j]), "column": j, "id_rank": rank[offers[j].id]}
        for j in sorted(range(len(offers)), key=turn)
    ]
    scopes = ScopeBits(tuple(encoder.scopes))
    skips = scopes.skip_on_sale.to_bytes(8 * max(1, -(-scopes.n // 64)), "little")
    return EncodedOffers(
        rows=np.array(
            [[-1 if value is None else value for value in row.values()] for row in rows], np.int64
        ).reshape(-1, len(OFFER)),
        tiers=np.array(encoder.tiers, np.int64).reshape(-1, 3),
        slots=np.array(encoder.slots, np.int64).reshape(-1, 2),
        scopes=scopes,
        skips=np.frombuffer(skips, "<u8").astype(np.uint64),
        gifts=tuple(encoder.gifts),
        periods=tuple(encoder.periods),  # type: ignore[arg-type]
        n_groups=len(encoder.groups),
    )


def method_fits(batch: CartBatch, offers: Sequence[Offer]) -> NDArray[np.uint8]:
    """`(n_methods, n_offers)` whether free shipping holds for a method."""
    names = [o.mechanic.methods if isinstance(o.mechanic, FreeShipping) else () for o in offers]
    fits = [[not own or method in own for own in names] for method in batch.methods]
    return np.array(fits, np.uint8).reshape(len(batch.methods), len(offers))
