"""Exact pricing of many carts: `price_cart` on columns, to the cent and to the reason the same."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError
from promo_ray.offers import native
from promo_ray.offers.cart import (
    AppliedOffer,
    Cart,
    Context,
    Discount,
    GiftLine,
    PricedCart,
    PricedLine,
    PricedShipping,
    RejectedOffer,
    Totals,
)
from promo_ray.offers.cart_batch import CartBatch
from promo_ray.offers.customers import Customers
from promo_ray.offers.encode import (
    CODE_OF,
    KERNEL_REASONS,
    REASONS,
    EncodedOffers,
    encode,
    is_encodable,
    method_fits,
    scope_masks,
)
from promo_ray.offers.ledger import CapLedger
from promo_ray.offers.mechanics.gift import Gift
from promo_ray.offers.offer import Offer
from promo_ray.offers.pricing import in_order, price_cart
from promo_ray.offers.reasons import Reason
from promo_ray.offers.terms import Window


@dataclass(frozen=True, eq=False)
class PricedBatch:
    """Outcome of `price_carts`; money in minor units.

    Attributes:
        carts: as given.
        offers: as given.
        pay: `(n_lines,)` int64 to pay for all units of a line.
        totals: `(n_carts, 6)` int64, columns as in `Totals`.
        saving: `(n_carts, n_offers)` int64 off goods and shipping.
        outcome: `(n_carts, n_offers)` int16: >= 0, the offer applied as that one of the cart;
            < 0, it did not, for `REASONS[-1 - outcome]`.
        by_line: `(n_lines, n_offers)` int64 off the line; None unless asked for.
        units: `(n_carts, n_offers)` int64 units made cheaper whose list price was no reduced one;
            None unless asked for.
        customers: who stands behind the carts.
    """

    carts: CartBatch
    offers: tuple[Offer, ...]
    pay: NDArray[np.int64]
    totals: NDArray[np.int64]
    saving: NDArray[np.int64]
    outcome: NDArray[np.int16]
    by_line: NDArray[np.int64] | None
    units: NDArray[np.int64] | None
    customers: Customers

    @cached_property
    def is_applied(self) -> NDArray[np.bool_]:
        """`(n_carts, n_offers)` whether the offer applied."""
        return self.outcome >= 0

    @cached_property
    def cost(self) -> NDArray[np.int64]:
        """`(n_carts, n_offers)` what the offer cost the shop: saving and gifts."""
        gifts = [
            o.mechanic.quantity * o.mechanic.unit_cost if isinstance(o.mechanic, Gift) else 0
            for o in self.offers
        ]
        return self.saving + self.is_applied * np.array(gifts, np.int64)

    def reasons(self, offer: int) -> dict[Reason, int]:
        """Number of carts by the reason why an offer did not apply."""
        found = np.bincount(-1 - self.outcome[self.outcome[:, offer] < 0, offer].astype(np.int64))
        return {REASONS[i]: int(n) for i, n in enumerate(found) if n}

    def cart(self, i: int) -> PricedCart:
        """Outcome of cart i as an object, equal to that of `price_cart`.

        Raises:
            DataError: the batch was not priced with `by_line`.
        """
        if self.by_line is None:
            raise DataError("carts must be priced with by_line=True to take one out")
        cart, outcome = self.carts.cart(i), self.outcome[i]
        first, end = self.carts.start[i : i + 2]
        off = self.by_line[first:end]
        totals = Totals(*self.totals[i].tolist())
        context = self.customers.context(i)
        by_id = sorted(range(len(self.offers)), key=lambda j: self.offers[j].id)
        turns = sorted((j for j in by_id if outcome[j] >= 0), key=lambda j: outcome[j])
        applied = [self._applied(i, j, off[:, j]) for j in turns]
        gifts = [_gift_line(self.offers[j], context) for j in turns]
        lines = (
            PricedLine(
                line.item_id,
                line.quantity,
                line.quantity * line.list_price,
                pay,
                tuple(Discount(self.offers[j].id, int(row[j])) for j in by_id if row[j]),
            )
            for line, pay, row in zip(cart.lines, self.pay[first:end].tolist(), off, strict=True)
        )
        return PricedCart(
            lines=tuple(lines),
            shipping=_shipping(cart, totals, applied),
            gifts=tuple(gift for gift in gifts if gift is not None),
            applied=tuple(applied),
            rejected=tuple(
                RejectedOffer(self.offers[j].id, REASONS[-1 - outcome[j]])
                for j in by_id
                if outcome[j] < 0
            ),
            totals=totals,
        )

    def _applied(self, i: int, j: int, by_line: NDArray[np.int64]) -> AppliedOffer:
        offer, saving = self.offers[j], int(self.saving[i, j])
        shipping = saving if offer.layer == "shipping" else 0
        gift_cost = int(self.cost[i, j]) - saving
        shares = tuple(by_line.tolist())
        return AppliedOffer(offer.id, offer.version, saving, shares, shipping, gift_cost)


def _gift_line(offer: Offer, context: Context) -> GiftLine | None:
    kind = offer.mechanic
    if not isinstance(kind, Gift):
        return None
    sku = kind.chosen(offer.id, context.gift_choice)
    return GiftLine(offer.id, sku, kind.quantity, kind.quantity * kind.unit_cost)


def _shipping(cart: Cart, totals: Totals, applied: Sequence[AppliedOffer]) -> PricedShipping | None:
    if cart.shipping is None:
        return None
    off = tuple(Discount(a.offer_id, a.shipping) for a in applied if a.shipping)
    pay = totals.shipping - totals.shipping_saving
    return PricedShipping(cart.shipping.method, totals.shipping, pay, tuple(sorted(off)))


def price_carts(
    carts: CartBatch | Sequence[Cart],
    offers: Sequence[Offer],
    context: Context | Sequence[Context] | None = None,
    *,
    draw_caps: bool = False,
    by_line: bool = False,
    by_unit: bool = False,
    n_threads: int = 1,
) -> PricedBatch:
    """Price many carts; each as `price_cart` does, bit for bit, for any number of threads.

    Args:
        carts: columns of carts, or carts.
        offers: ids unique, currency that of the carts.
        context: of every cart, or one for all. Where it is one for all, `carts.at` and
            `carts.user` take the place of its time and user, if they are there. None = nothing is
            known besides what the carts say.
        draw_caps: False = every cart is alone with what the context says is left of the caps.
            True = all caps start full and are drawn down from cart to cart in the order of the
            batch, by `carts.at` and `carts.user`; days and weeks are those of the time zone of the
            offer's window, weeks begin on Monday.
        by_line: also give the share of every offer in every line.
        by_unit: also give the number of units each offer made cheaper.
        n_threads: threads; with `draw_caps` it is one.

    Raises:
        DataError: two offers with one id, another currency, a group that disagrees, a gift that
            the offer does not have, caps that are to be drawn by time or user without one, or
            drawn although a context tells what is left, a window and no time to judge it at, or
            less than one thread.
    """
    if n_threads < 1:
        raise DataError(f"must be >= 1; got {n_threads}", where="n_threads")
    carts = carts if isinstance(carts, CartBatch) else CartBatch.of(carts)
    if context is None:
        if carts.at is None and any(offer.window != Window() for offer in offers):
            raise DataError("must be given, or carts.at, to judge windows", where="context")
        context = Context(now=datetime.fromtimestamp(0, UTC))
    in_order(offers, carts.currency)
    customers = Customers(carts, context)
    if draw_caps and any(own.left for own in customers.contexts):
        raise DataError("must be empty where caps are drawn", where="context.left")
    shape = (len(carts), len(offers))
    done = PricedBatch(
        carts=carts,
        offers=tuple(offers),
        pay=np.zeros(len(carts.item), np.int64),
        totals=np.zeros((len(carts), len(Totals._fields)), np.int64),
        saving=np.zeros(shape, np.int64),
        outcome=np.zeros(shape, np.int16),
        by_line=np.zeros((len(carts.item), len(offers)), np.int64) if by_line else None,
        units=np.zeros(shape, np.int64) if by_unit else None,
        customers=customers,
    )
    ledger = CapLedger(carts, offers) if draw_caps else None
    if native.kernel is None or not is_encodable(offers):
        _price_singly(done, ledger, range(len(carts)))
        return done
    encoded = encode(offers)
    status = np.zeros(len(carts), np.uint8)
    call = _call(done, customers, encoded, ledger, status)
    if ledger is not None:
        first = 0
        while (first := call.price(first, len(carts))) < len(carts):
            _price_singly(done, ledger, [first])
            first += 1
        return done
    edges = np.searchsorted(carts.start, np.linspace(0, carts.start[-1], n_threads + 1)).tolist()
    edges[0], edges[-1] = 0, len(carts)
    with ThreadPoolExecutor(n_threads) as pool:
        ends = list(pool.map(lambda part: call.price(*part), pairwise(edges)))
    if ends != edges[1:]:
        raise MemoryError("no memory to price carts")
    _price_singly(done, None, np.flatnonzero(status).tolist())
    return done


def _call(
    done: PricedBatch,
    customers: Customers,
    encoded: EncodedOffers,
    ledger: CapLedger | None,
    status: NDArray[np.uint8],
) -> native.Call:
    carts, offers = done.carts, done.offers
    masks, skips = scope_masks(carts, encoded.scopes)
    reason = np.ascontiguousarray(customers.reasons(offers))
    gift_sku, stock = customers.gifts(encoded.gifts)
    counts = {
        "n_offers": len(offers),
        "n_groups": encoded.n_groups,
        "n_words": masks.shape[1],
        "n_methods": len(carts.methods),
        "n_skus": stock.shape[1],
        "n_gifts": len(encoded.gifts),
        "reason_stride": len(offers) if len(reason) > 1 else 0,
        "n_carts": len(carts),
    }
    arrays = {
        "offers": encoded.rows,
        "tiers": encoded.tiers,
        "slots": encoded.slots,
        "masks": masks,
        "skips": skips,
        "method_fits": method_fits(carts, offers),
        "start": carts.start,
        "item": carts.item,
        "list_price": carts.list_price,
        "quantity": carts.quantity,
        "cost": carts.unit_cost,
        "sale": carts.is_on_sale,
        "shipping": carts.shipping_price,
        "method": carts.shipping_method,
        "row": customers.row,
        "reason": reason,
        "money_left": customers.money_left(offers),
        "gift_sku": gift_sku,
        "stock": stock,
        "codes": np.array([CODE_OF[r] for r in KERNEL_REASONS], np.int16),
        "user": carts.user,
        **(CapLedger.NONE if ledger is None else ledger.arrays(encoded)),
        "pay": done.pay,
        "totals": done.totals,
        "saving": done.saving,
        "by_line": done.by_line,
        "units": done.units,
        "outcome": done.outcome,
        "status": status,
    }
    return native.Call(counts, arrays)


def _price_singly(done: PricedBatch, ledger: CapLedger | None, numbers: Sequence[int]) -> None:
    """Price carts one by one into the columns."""
    place = {offer.id: j for j, offer in enumerate(done.offers)}
    for i in numbers:
        cart, context = done.carts.cart(i), done.customers.context(i)
        if ledger is not None:
            context = replace(context, left=ledger.left(i))
        priced = price_cart(cart, done.offers, context)
        first, end = done.carts.start[i : i + 2]
        done.pay[first:end] = [line.pay for line in priced.lines]
        done.totals[i] = priced.totals
        done.saving[i] = 0
        for turn, applied in enumerate(priced.applied):
            j = place[applied.offer_id]
            done.outcome[i, j] = turn
            done.saving[i, j] = applied.saving
            if done.by_line is not None:
                done.by_line[first:end, j] = applied.by_line
            if ledger is not None:
                ledger.book(i, j, applied.saving + applied.gift_cost)
        for rejected in priced.rejected:
            done.outcome[i, place[rejected.offer_id]] = -CODE_OF[rejected.reason]
        if done.units is not None:
            done.units[i] = _units(cart, done.offers, context)


def _units(cart: Cart, offers: Sequence[Offer], context: Context) -> list[int]:
    """Units each offer made cheaper that were not on sale.

    Told by the cart in lines of one unit: splitting lines changes no price.
    """
    lines = [replace(line, quantity=1) for line in cart.lines for _ in range(line.quantity)]
    priced = price_cart(replace(cart, lines=tuple(lines)), offers, context)
    count = dict.fromkeys((offer.id for offer in offers), 0)
    for line, row in zip(lines, priced.lines, strict=True):
        for offer_id, _ in row.discounts:
            count[offer_id] += not line.is_on_sale
    return list(count.values())
