"""Typed offers with exact integer-money cart pricing and a JSON form.

All money is int minor units (cents) of one ISO currency, all rates are int basis points. Nothing
here needs more than the standard library at run time, so that serving can load it anywhere.
"""

from promo_ray.offers.amount_off import AmountOff
from promo_ray.offers.cart import (
    AppliedOffer,
    Cart,
    CartLine,
    PricedCart,
    PricedLine,
    RejectedOffer,
    Totals,
)
from promo_ray.offers.message import Message
from promo_ray.offers.offer import Offer, from_terms
from promo_ray.offers.percent_off import PercentOff
from promo_ray.offers.pricing import price_cart
from promo_ray.offers.product_bundle import ProductBundle
from promo_ray.offers.spend_threshold import SpendThreshold
from promo_ray.offers.terms import Scope, Stacking, Window

__all__ = [
    "AmountOff",
    "AppliedOffer",
    "Cart",
    "CartLine",
    "Message",
    "Offer",
    "PercentOff",
    "PricedCart",
    "PricedLine",
    "ProductBundle",
    "RejectedOffer",
    "Scope",
    "SpendThreshold",
    "Stacking",
    "Totals",
    "Window",
    "from_terms",
    "price_cart",
]
