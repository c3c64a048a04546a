"""Exact pricing of a cart under offers."""

from __future__ import annotations

from collections.abc import Sequence

from promo_ray.offers.cart import Cart, Context, PricedCart
from promo_ray.offers.offer import Offer


def price_cart(cart: Cart, offers: Sequence[Offer], context: Context) -> PricedCart:
    """Price a cart; pure, the order of `offers` does not matter."""
    raise NotImplementedError
