"""`price_cart`: one cart, by the rules as written or by the compiled pricer of many carts."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from promo_ray.errors import DataError
from promo_ray.offers.cart import Cart, Context, PricedCart
from promo_ray.offers.offer import Offer
from promo_ray.offers.pricing import price_by_rules

_FEW_OFFERS = 16  # up to here, to set up the compiled pricer takes as long as to do without


def price_cart(cart: Cart, offers: Sequence[Offer], context: Context) -> PricedCart:
    """Price a cart; pure, and the order of `offers` does not matter.

    Many offers that are the very same objects from cart to cart go to the compiled pricer where it
    was built and knows them, else everything is done by `price_by_rules`. Their outcomes are equal.

    Args:
        cart: lines with list prices, shipping if known.
        offers: ids unique, currency that of the cart; those the customer cannot have are rejected.
        context: who, when, where, what is left of caps, what is in stock.

    Raises:
        DataError: two offers with one id, another currency, a group that disagrees, or a gift
            that the offer does not have, or no context.
    """
    if not isinstance(context, Context):
        raise DataError(f"must be a Context; got {context!r}", where="context")
    if len(offers) > _FEW_OFFERS:
        batch = _batch()
        if batch is not None and batch.is_worth_compiling(offers, cart.currency):
            priced: PricedCart = batch.price_carts([cart], offers, context, by_line=True).cart(0)
            return priced
    return price_by_rules(cart, offers, context)


@cache
def _batch() -> Any:
    """The pricer of many carts, loaded on first use; None where there is no NumPy."""
    try:
        return importlib.import_module("promo_ray.offers.batch")
    except ImportError:
        return None
