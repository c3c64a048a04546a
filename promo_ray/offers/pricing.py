"""Exact pricing of a cart under offers: integers only, one order, every cent accounted for.

Rules. (1) Units of the same item at the same price are equal, however lines split them. (2) Item
offers come before order offers; within a layer the order is (priority, id). (3) An offer computes
its saving on the exact sum over the units it touches, rounds once, and spreads it by largest
remainder over what is left to pay on them, so no unit falls below zero. (4) Every cent off
carries the id of its offer; every offer that saves nothing carries a reason code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from promo_ray.errors import DataError
from promo_ray.offers.cart import (
    AppliedOffer,
    Cart,
    CartLine,
    PricedCart,
    PricedLine,
    RejectedOffer,
    Totals,
)
from promo_ray.offers.mechanic import Reward, Units
from promo_ray.offers.money import spread
from promo_ray.offers.offer import Offer


class _Run(NamedTuple):
    """Key of units that went through the same: item, list price and `(offer id, cents)` off."""

    item_id: str
    category: str
    list_price: int
    price: int
    taken: tuple[tuple[str, int], ...]


def price_cart(cart: Cart, offers: Sequence[Offer]) -> PricedCart:
    """Price a cart; pure, the order of `offers` does not matter.

    Args:
        cart: lines with list prices.
        offers: offers of this user; ids unique, currency that of the cart.

    Raises:
        DataError: two offers with one id, or another currency.
    """
    _check(cart, offers)
    runs = Counter[_Run]()
    for line in cart.lines:
        runs[_Run(line.item_id, line.category, line.list_price, line.list_price, ())] += (
            line.quantity
        )
    order = sorted(offers, key=lambda o: (o.layer != "item", o.stacking.priority, o.id))
    applied: list[str] = []
    rejected: list[RejectedOffer] = []
    for offer in order:
        outcome = _apply(runs, offer, cart)
        if isinstance(outcome, str):
            rejected.append(RejectedOffer(offer.id, outcome))
        else:
            runs = outcome
            applied.append(offer.id)
    lines = _fill_lines(cart.lines, runs)
    return PricedCart(lines, _shares(applied, lines), tuple(rejected), _totals(lines))


def _check(cart: Cart, offers: Sequence[Offer]) -> None:
    seen: set[str] = set()
    for offer in offers:
        if offer.id in seen:
            raise DataError("offer ids must be unique; it comes twice", where=f"offer {offer.id!r}")
        seen.add(offer.id)
        if offer.currency != cart.currency:
            raise DataError(
                f"currency must be that of the cart, {cart.currency}; got {offer.currency}",
                where=f"offer {offer.id!r}",
            )


def _apply(runs: Counter[_Run], offer: Offer, cart: Cart) -> Counter[_Run] | str:
    """Runs after the offer, or the reason code why it changes nothing."""
    reason = offer.window.reason(cart.at) if cart.at is not None else None
    if reason is not None:
        return reason
    inside = sorted(r for r in runs if offer.scope.covers(r.item_id, r.category))
    if not inside:
        return "not_in_scope"
    units = [Units(r.item_id, runs[r], r.list_price, r.price) for r in inside]
    reward = offer.mechanic.reward(units, offer.stacking.base)
    if isinstance(reward, str):
        return reward
    left = sum(r.price * n for r, n in zip(inside, reward.touched, strict=True))
    saving = min(reward.saving, left)
    if saving == 0:
        return "nothing_left"
    after = Counter({r: n for r, n in runs.items() if r not in set(inside)})
    for run, n_touched, (share, n_more) in zip(
        inside, reward.touched, _off(inside, reward, saving), strict=True
    ):
        for off, n in ((share, n_touched - n_more), (share + 1, n_more)):
            after[_less(run, offer.id, off)] += n
        after[run] += runs[run] - n_touched
    return +after  # drops runs of no units


def _off(inside: list[_Run], reward: Reward, saving: int) -> list[tuple[int, int]]:
    if reward.per_unit is not None:
        return [(off, 0) for off in reward.per_unit]
    return spread(saving, [r.price for r in inside], reward.touched)


def _less(run: _Run, offer_id: str, off: int) -> _Run:
    if off == 0:
        return run
    return run._replace(price=run.price - off, taken=(*run.taken, (offer_id, off)))


def _fill_lines(lines: Sequence[CartLine], runs: Counter[_Run]) -> tuple[PricedLine, ...]:
    """Hand the units of each run to the lines of its item, in the order of the cart."""
    stock: dict[tuple[str, str, int], list[tuple[_Run, int]]] = {}
    for run in sorted(runs, reverse=True):
        key = (run.item_id, run.category, run.list_price)
        stock.setdefault(key, []).append((run, runs[run]))
    priced = []
    for line in lines:
        pile = stock[line.item_id, line.category, line.list_price]
        wanted, pay, off = line.quantity, 0, Counter[str]()
        while wanted:
            run, n = pile.pop()
            used = min(n, wanted)
            if n > used:
                pile.append((run, n - used))
            wanted -= used
            pay += used * run.price
            for offer_id, cents in run.taken:
                off[offer_id] += used * cents
        total = line.quantity * line.list_price
        discounts = tuple(sorted(off.items()))
        priced.append(PricedLine(line.item_id, line.quantity, total, pay, discounts))
    return tuple(priced)


def _shares(applied: list[str], lines: tuple[PricedLine, ...]) -> tuple[AppliedOffer, ...]:
    tables = [dict(line.discounts) for line in lines]
    shares = {offer_id: tuple(t.get(offer_id, 0) for t in tables) for offer_id in applied}
    return tuple(AppliedOffer(o, sum(by_line), by_line) for o, by_line in shares.items())


def _totals(lines: tuple[PricedLine, ...]) -> Totals:
    list_total = sum(line.list_total for line in lines)
    pay = sum(line.pay for line in lines)
    return Totals(list_total, list_total - pay, pay)
