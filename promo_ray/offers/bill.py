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
from promo_ray.offers.offer import Offer
from promo_ray.offers.reasons import Reason
from promo_ray.offers.units import Run, key_of


def priced(
    cart: Cart,
    applied: Sequence[Offer],
    rejected: Mapping[str, Reason],
    gifts: Sequence[GiftLine],
    runs: Sequence[Run],
    shipping: Sequence[Run],
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
    off_lines = [dict(line.discounts) for line in lines]
    sent, off_shipping = _shipping(cart, shipping)
    given = {gift.offer_id: gift.cost for gift in gifts}
    parts = []
    for offer in applied:
        by_line = tuple(off.get(offer.id, 0) for off in off_lines)
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


def _lines(lines: Sequence[CartLine], runs: Sequence[Run]) -> tuple[PricedLine, ...]:
    """Hand the units of each item to its lines, in the order of the cart."""
    keys = [key_of(line) for line in lines]
    number = {key: i for i, key in enumerate(sorted(set(keys)))}
    piles: dict[int, list[tuple[Run, int]]] = {}
    for run in reversed(runs):
        piles.setdefault(run.item, []).append((run, run.quantity))
    return tuple(_line(line, piles[number[key]]) for line, key in zip(lines, keys, strict=True))


def _line(line: CartLine, pile: list[tuple[Run, int]]) -> PricedLine:
    wanted, pay = line.quantity, 0
    off: dict[str, int] = {}
    while wanted:
        run, n = pile.pop()
        used = min(n, wanted)
        if n > used:
            pile.append((run, n - used))
        wanted -= used
        pay += used * run.price
        for offer_id, cents in run.taken:
            off[offer_id] = off.get(offer_id, 0) + used * cents
    discounts = tuple(Discount(i, off[i]) for i in sorted(off))
    return PricedLine(line.item_id, line.quantity, line.quantity * line.list_price, pay, discounts)


def _shipping(cart: Cart, runs: Sequence[Run]) -> tuple[PricedShipping | None, dict[str, int]]:
    if cart.shipping is None:
        return None, {}
    off = dict(runs[0].taken)
    discounts = tuple(Discount(i, off[i]) for i in sorted(off))
    method, price = cart.shipping.method, cart.shipping.price
    return PricedShipping(method, price, runs[0].price, discounts), off
