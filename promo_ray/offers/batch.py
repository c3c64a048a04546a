"""Exact pricing of many carts: `price_cart` on columns, to the cent and to the reason the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError
from promo_ray.offers import native
from promo_ray.offers.cart import Cart, Context, Totals
from promo_ray.offers.cart_batch import CartBatch
from promo_ray.offers.customers import Customers
from promo_ray.offers.encode import (
    CODE_OF,
    KERNEL_REASONS,
    EncodedOffers,
    encode,
    is_encodable,
    method_fits,
)
from promo_ray.offers.ledger import CapLedger
from promo_ray.offers.offer import Offer, check_together
from promo_ray.offers.priced_batch import PricedBatch
from promo_ray.offers.pricing import price_by_rules
from promo_ray.offers.terms import Window

_N_ENCODED = 64  # sets of offers that are kept encoded
_N_TO_PAY = 1  # carts after which offers are taken to come again and again


class _Same(tuple[int, ...]):
    """Offers as a key: the very same ones, since to compare them would take longer than to price.

    The key keeps them alive, so no other object can come to their ids.
    """

    offers: tuple[Offer, ...]

    def __new__(cls, offers: Sequence[Offer]) -> Self:
        """Key of offers."""
        same = super().__new__(cls, map(id, offers))
        same.offers = tuple(offers)
        return same


@lru_cache(_N_ENCODED)
def _encoded(same: _Same, currency: str) -> EncodedOffers | None:
    """The offers as the kernel reads them, None if it does not know them all; see `price_carts`."""
    check_together(same.offers, currency, "the cart")
    return encode(same.offers) if is_encodable(same.offers) else None


@lru_cache(_N_ENCODED)
def _times_asked(same: _Same, currency: str) -> Iterator[int]:
    return itertools.count()


def is_worth_compiling(offers: Sequence[Offer], currency: str) -> bool:
    """Whether the kernel was built, knows all that the offers use, and they come again and again.

    To encode offers takes longer than it saves on a few carts, so it is asked for the very same
    ones some times before the answer is yes.
    """
    if native.kernel is None:
        return False
    same = _Same(offers)
    is_again = next(_times_asked(same, currency)) >= _N_TO_PAY
    return is_again and _encoded(same, currency) is not None


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
    encoded = _encoded(_Same(offers), carts.currency)
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
    if native.kernel is None or encoded is None:
        _price_singly(done, ledger, range(len(carts)))
        return done
    status = np.zeros(len(carts), np.uint8)
    call = _call(done, customers, encoded, ledger, status)
    if ledger is not None:
        first = 0
        while (first := call.price(first, len(carts))) < len(carts):
            _price_singly(done, ledger, [first])
            first += 1
        return done
    edges = [0, len(carts)]
    if n_threads > 1:
        parts = np.linspace(0, carts.start[-1], n_threads + 1)[1:-1]
        edges[1:1] = np.searchsorted(carts.start, parts).tolist()
    with ThreadPoolExecutor(n_threads) as pool:
        pricing = pool.map if n_threads > 1 else map  # to start a thread takes longer than a cart
        ends = list(pricing(call.price, edges[:-1], edges[1:]))
    if ends != edges[1:]:
        raise MemoryError("no memory to price carts")
    if status.any():
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
    masks = carts.item_masks(encoded.scopes)
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
        "skips": encoded.skips,
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
        priced = price_by_rules(cart, done.offers, context)
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
    priced = price_by_rules(replace(cart, lines=tuple(lines)), offers, context)
    count = dict.fromkeys((offer.id for offer in offers), 0)
    for line, row in zip(lines, priced.lines, strict=True):
        for offer_id, _ in row.discounts:
            count[offer_id] += not line.is_on_sale
    return list(count.values())
