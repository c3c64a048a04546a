"""Outcome of pricing many carts, as columns and as objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError
from promo_ray.offers.cart import (
    AppliedOffer,
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
from promo_ray.offers.encode import REASONS
from promo_ray.offers.mechanics.gift import Gift
from promo_ray.offers.offer import Offer
from promo_ray.offers.reasons import Reason

# records of tuples of their fields, a third of the time of calls: there may be a thousand in a cart
_DISCOUNT = partial(tuple.__new__, Discount)
_APPLIED = partial(tuple.__new__, AppliedOffer)
_SAVING = itemgetter(1)


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
        return self.saving + self.is_applied * self.gift_costs

    @cached_property
    def gift_costs(self) -> NDArray[np.int64]:
        """`(n_offers,)` what the gift of an offer costs the shop; 0 = no gift."""
        kinds = (o.mechanic for o in self.offers)
        costs = [k.quantity * k.unit_cost if isinstance(k, Gift) else 0 for k in kinds]
        return np.array(costs, np.int64)

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
        carts, offers = self.carts, self.offers
        first, end = carts.start[i : i + 2].tolist()
        outcome, off = self.outcome[i].tolist(), self.by_line[first:end]
        totals = Totals._make(self.totals[i].tolist())
        names = [offer.id for offer in offers]
        by_id = sorted(range(len(offers)), key=names.__getitem__)
        turns = sorted((j for j in by_id if outcome[j] >= 0), key=outcome.__getitem__)
        applied = self._applied(i, turns, off)
        shipping = None
        if carts.shipping_price[i] >= 0:
            method, pay = (
                carts.methods[carts.shipping_method[i]],
                totals.shipping - totals.shipping_saving,
            )
            shares = sorted(Discount(a.offer_id, a.shipping) for a in applied if a.shipping)
            shipping = PricedShipping(method, totals.shipping, pay, tuple(shares))
        return PricedCart(
            lines=self._lines(first, end, off, [j for j in by_id if outcome[j] >= 0]),
            shipping=shipping,
            gifts=self._gifts(i, turns),
            applied=applied,
            rejected=tuple(
                RejectedOffer(names[j], REASONS[-1 - outcome[j]]) for j in by_id if outcome[j] < 0
            ),
            totals=totals,
        )

    def _lines(
        self, first: int, end: int, off: NDArray[np.int64], applied: Sequence[int]
    ) -> tuple[PricedLine, ...]:
        """Lines with their discounts; `applied` are the numbers of offers in the order of ids."""
        carts, part = self.carts, slice(first, end)
        names = [self.offers[j].id for j in applied]
        quantity, total = carts.quantity[part], carts.quantity[part] * carts.list_price[part]
        columns = (carts.item[part], quantity, total, self.pay[part], off[:, applied])
        return tuple(
            PricedLine(
                carts.items[item].item_id,
                n,
                list_total,
                pay,
                tuple(map(_DISCOUNT, filter(_SAVING, zip(names, row, strict=True)))),
            )
            for item, n, list_total, pay, row in zip(*(c.tolist() for c in columns), strict=True)
        )

    def _applied(
        self, i: int, turns: Sequence[int], off: NDArray[np.int64]
    ) -> tuple[AppliedOffer, ...]:
        offers = [self.offers[j] for j in turns]
        saving, gift_costs = self.saving[i, turns].tolist(), self.gift_costs[turns].tolist()
        fields = (
            [offer.id for offer in offers],
            [offer.version for offer in offers],
            saving,
            map(tuple, off[:, turns].T.tolist()),
            [s * (o.layer == "shipping") for o, s in zip(offers, saving, strict=True)],
            gift_costs,
        )
        return tuple(map(_APPLIED, zip(*fields, strict=True)))

    def _gifts(self, i: int, turns: Sequence[int]) -> tuple[GiftLine, ...]:
        found = []
        for j in turns:
            offer, kind = self.offers[j], self.offers[j].mechanic
            if isinstance(kind, Gift):
                sku = kind.chosen(offer.id, self.customers.context(i).gift_choice)
                cost = int(self.gift_costs[j])
                found.append(GiftLine(offer.id, sku, kind.quantity, cost))
        return tuple(found)
