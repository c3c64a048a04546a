"""The outcome of pricing, line by line: runs of units handed back to the lines of the cart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from promo_ray.offers.cart import (
    AppliedOffer,
    Cart,
    CartLine,
    Discount,
    GiftLine,
    PricedCart,
    PricedLine,
    PricedShipping,
    RejectedOffer,
    Totals,
)
from promo_ray.offers.mechanics.base import Taken, Units
from promo_ray.offers.offer import Offer
from promo_ray.offers.reasons import Reason
from promo_ray.offers.units import key_of


def priced(
    cart: Cart,
    applied: Sequence[Offer],
    rejected: Mapping[str, Reason],
    gifts: Sequence[GiftLine],
    runs: Sequence[Units],
    shipping: Sequence[Units],
) -> PricedCart:
    """Outcome of pricing.

    Args:
        cart: as given.
        applied: in the order they applied.
        rejected: reason by offer id.
        gifts: lines that offers added.
        runs: all units of the cart, in canonical order.
        shipping: the unit of shipping, if there is one.
    """
    lines = _lines(cart.lines, runs)
    sent, off_shipping = _shipping(cart, shipping)
    given = {gift.offer_id: gift.cost for gift in gifts}
    by_offer = {offer.id: [0] * len(lines) for offer in applied}
    for i, line in enumerate(lines):
        for offer_id, saving in line.discounts:
            by_offer[offer_id][i] = saving
    parts = []
    for offer in applied:
        by_line = tuple(by_offer[offer.id])
        share = off_shipping.get(offer.id, 0)
        cost = given.get(offer.id, 0)
        saving = sum(by_line) + share
        parts.append(AppliedOffer(offer.id, offer.version, saving, by_line, share, cost))
    goods, goods_pay = sum(line.list_total for line in lines), sum(line.pay for line in lines)
    sent_list, sent_pay = (sent.list_total, sent.pay) if sent else (0, 0)
    return PricedCart(
        lines=lines,
        shipping=sent,
        gifts=tuple(gifts),
        applied=tuple(parts),
        rejected=tuple(RejectedOffer(i, rejected[i]) for i in sorted(rejected)),
        totals=Totals(
            list_total=goods,
            saving=goods - goods_pay,
            shipping=sent_list,
            shipping_saving=sent_list - sent_pay,
            pay=goods_pay + sent_pay,
            gift_cost=sum(gift.cost for gift in gifts),
        ),
    )


def _lines(lines: Sequence[CartLine], runs: Sequence[Units]) -> tuple[PricedLine, ...]:
    """Hand the units of each item to its lines, in the order of the cart."""
    keys = [key_of(line) for line in lines]
    number = {key: i for i, key in enumerate(sorted(set(keys)))}
    piles: dict[int, list[tuple[Units, int]]] = {}
    for run in reversed(runs):
        piles.setdefault(run.item, []).append((run, run.quantity))
    return tuple(_line(line, piles[number[key]]) for line, key in zip(lines, keys, strict=True))


def _line(line: CartLine, pile: list[tuple[Units, int]]) -> PricedLine:
    wanted, pay = line.quantity, 0
    off: dict[str, int] = {}
    while wanted:
        run, n = pile.pop()
        used = min(n, wanted)
        if n > used:
            pile.append((run, n - used))
        wanted -= used
        pay += used * run.price
        _count(off, run.taken, used)
    discounts = tuple(Discount(i, off[i]) for i in sorted(off))
    return PricedLine(line.item_id, line.quantity, line.quantity * line.list_price, pay, discounts)


def _count(off: dict[str, int], taken: Taken | None, quantity: int) -> None:
    """Add what offers took off a number of equal units."""
    while taken is not None:
        taken, offer_id, cents = taken
        off[offer_id] = off.get(offer_id, 0) + quantity * cents


def _shipping(cart: Cart, runs: Sequence[Units]) -> tuple[PricedShipping | None, dict[str, int]]:
    if cart.shipping is None:
        return None, {}
    off: dict[str, int] = {}
    _count(off, runs[0].taken, 1)
    discounts = tuple(Discount(i, off[i]) for i in sorted(off))
    method, price = cart.shipping.method, cart.shipping.price
    return PricedShipping(method, price, runs[0].price, discounts), off
