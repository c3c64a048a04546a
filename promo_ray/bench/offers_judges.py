"""Judges of priced carts: what must hold for every cart, every offer and every customer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from promo_ray.bench.offers_cases import NOW, Case, Draw
from promo_ray.offers import (
    AmountOff,
    Cart,
    Context,
    Offer,
    PercentOff,
    PricedCart,
    Stacking,
    price_cart,
)
from promo_ray.offers.eligibility import entered, left_of, reason_of

Judge = Callable[[Case, PricedCart, Draw], str]  # "" if all is well, else what is wrong


def violations(case: Case, draw: Draw) -> list[str]:
    """What is wrong with the price of a case; each text names the judge."""
    priced = price_cart(case.cart, case.offers, case.context)
    found = ((judge.__name__, judge(case, priced, draw)) for judge in JUDGES)
    return [f"{name}: {fault}" for name, fault in found if fault]


def _price(case: Case, *offers: Offer) -> PricedCart:
    return price_cart(case.cart, offers, case.context)


def sums_hold(case: Case, priced: PricedCart, draw: Draw) -> str:
    """Every cent off has an offer; lines, offers and totals agree; no price leaves its range."""
    for line, before in zip(priced.lines, case.cart.lines, strict=True):
        if line.list_total != before.list_price * before.quantity:
            return "list total"
        if not 0 <= line.pay <= line.list_total:
            return "range of a line"
        if line.list_total - line.pay != sum(saving for _, saving in line.discounts):
            return "discounts of a line"
    totals, shipping = priced.totals, priced.shipping
    off_shipping = 0 if shipping is None else shipping.list_total - shipping.pay
    if shipping is not None and not 0 <= shipping.pay <= shipping.list_total:
        return "range of shipping"
    for i, line in enumerate(priced.lines):
        if sum(a.by_line[i] for a in priced.applied) != line.list_total - line.pay:
            return "shares of offers"
    if any(a.saving != sum(a.by_line) + a.shipping or a.saving < 0 for a in priced.applied):
        return "saving of an offer"
    if sum(a.shipping for a in priced.applied) != off_shipping != totals.shipping_saving:
        return "shares of shipping"
    if sum(a.saving for a in priced.applied) != totals.saving + totals.shipping_saving:
        return "total saving"
    if totals.pay != totals.list_total - totals.saving + totals.shipping - totals.shipping_saving:
        return "total to pay"
    return ""


def every_offer_is_told_of(case: Case, priced: PricedCart, draw: Draw) -> str:
    """Each offer either applied, and gave something, or was rejected."""
    named = [a.offer_id for a in priced.applied] + [r.offer_id for r in priced.rejected]
    if sorted(named) != sorted(o.id for o in case.offers):
        return f"{named}"
    given = {g.offer_id for g in priced.gifts}
    idle = [a.offer_id for a in priced.applied if a.saving == 0 and a.offer_id not in given]
    return f"{idle} applied and gave nothing" if idle else ""


def _by_item(case: Case, priced: PricedCart) -> Counter[tuple[str, int, str]]:
    off: Counter[tuple[str, int, str]] = Counter()
    for line, row in zip(case.cart.lines, priced.lines, strict=True):
        for offer_id, saving in row.discounts:
            off[line.item_id, line.list_price, offer_id] += saving
    return off


def order_and_split_of_lines_do_not_matter(case: Case, priced: PricedCart, draw: Draw) -> str:
    """Lines shuffled and split, offers shuffled: the same."""
    units = [replace(line, quantity=1) for line in case.cart.lines for _ in range(line.quantity)]
    cart = replace(case.cart, lines=tuple(draw.shuffled(units)))
    again = Case(cart, tuple(draw.shuffled(case.offers)), case.context)
    other = price_cart(*again)
    if _by_item(case, priced) != _by_item(again, other):
        return "discounts by item"
    if (priced.totals, priced.rejected) != (other.totals, other.rejected):
        return "totals or reasons"
    return ""


def ineligible_offers_do_not_matter(case: Case, priced: PricedCart, draw: Draw) -> str:
    """Without the offers that step 2 rejects, each alone: the same lines."""
    codes = entered(case.context)
    for offer in case.offers:
        if reason_of(offer, case.context, codes) is not None:
            other = _price(case, *(o for o in case.offers if o is not offer))
            if (priced.lines, priced.applied) != (other.lines, other.applied):
                return offer.id
    return ""


def caps_hold(case: Case, priced: PricedCart, draw: Draw) -> str:
    """No offer gives more than its caps and what is left of them."""
    by_id = {offer.id: offer for offer in case.offers}
    for applied in priced.applied:
        offer = by_id[applied.offer_id]
        left = left_of(offer, case.context.left)
        money = applied.saving + applied.gift_cost
        limits = [left.budget, left.user_money, offer.caps.per_order_money]
        limits.append(getattr(offer.mechanic, "max_amount", None))
        if any(limit is not None and money > limit for limit in limits):
            return offer.id
    return ""


def deeper_percentages_never_cost_more(case: Case, priced: PricedCart, draw: Draw) -> str:
    """A percentage alone, raised: the price to pay does not rise."""
    for offer in case.offers:
        if isinstance(offer.mechanic, PercentOff):
            deeper = min(10_000, offer.mechanic.bp + draw.one((1, 1, 50, 5000)))
            raised = replace(offer, mechanic=replace(offer.mechanic, bp=deeper))
            if _price(case, raised).totals.pay > _price(case, offer).totals.pay:
                return offer.id
    return ""


def floors_hold(case: Case, priced: PricedCart, draw: Draw) -> str:
    """An offer alone takes no unit below its floor or margin."""
    for offer in case.offers:
        if offer.caps.floor_price is None and offer.caps.min_margin_bp is None:
            continue
        units = [
            replace(line, quantity=1) for line in case.cart.lines for _ in range(line.quantity)
        ]
        cart = replace(case.cart, lines=tuple(units))
        for row, line in zip(price_cart(cart, [offer], case.context).lines, units, strict=True):
            margin = offer.caps.min_margin_bp
            if row.pay < min(line.list_price, offer.caps.floor_price or 0):
                return f"{offer.id}: floor"
            if margin is None or row.pay == line.list_price:
                continue
            if line.unit_cost is None or (row.pay - line.unit_cost) * 10_000 < margin * row.pay:
                return f"{offer.id}: margin"
    return ""


def initial_base_forgets_priorities(case: Case, priced: PricedCart, draw: Draw) -> str:
    """Offers on list prices, far from zero: priorities do not move the saving."""
    cart = Cart(currency="USD", lines=case.cart.lines)
    goods = sum(line.list_price * line.quantity for line in cart.lines)
    kinds = [PercentOff(bp=draw.int(1, 1500)) for _ in range(3)]
    priorities = draw.shuffled(range(4))
    savings = set()
    for order in (priorities, priorities[::-1]):
        stackings = [Stacking(layer="order", priority=p, base="initial") for p in order]
        offers = [
            Offer(id=f"x{i}", currency="USD", mechanic=m, stacking=s)
            for i, (m, s) in enumerate(zip(kinds, stackings, strict=False))
        ]
        if goods >= 10:
            off = AmountOff(amount=goods // 10)
            offers.append(Offer(id="a", currency="USD", mechanic=off, stacking=stackings[3]))
        done = price_cart(cart, offers, Context(now=NOW))
        # a unit at zero has met the clip, and one of a few cents may by rounding
        if any(row.pay == 0 for row in done.lines) or any(x.list_price < 10 for x in cart.lines):
            return ""
        savings.add(done.totals.saving)
    return "" if len(savings) == 1 else f"{sorted(savings)}"


def the_best_of_a_group_saves_most(case: Case, priced: PricedCart, draw: Draw) -> str:
    """Item offers as one group `best`: it saves as much as the best of them alone."""
    best = Stacking(group="g", in_group="best", layer="item")
    offers = [
        replace(o, stacking=best)
        for o in case.offers
        if "item" in o.mechanic.layers and o.layer != "shipping"
    ][:4]
    together = _price(case, *offers)
    alone = [_price(case, offer).totals.saving for offer in offers]
    return "" if together.totals.saving == max(alone, default=0) else f"{alone}"


JUDGES: tuple[Judge, ...] = (
    sums_hold,
    every_offer_is_told_of,
    order_and_split_of_lines_do_not_matter,
    ineligible_offers_do_not_matter,
    caps_hold,
    deeper_percentages_never_cost_more,
    floors_hold,
    initial_base_forgets_priorities,
    the_best_of_a_group_saves_most,
)
