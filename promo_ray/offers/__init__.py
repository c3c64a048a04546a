"""Typed offers with exact integer-money cart pricing and a JSON form.

All money is int minor units (cents) of one ISO currency, all rates are int basis points. To price
one cart nothing is needed besides the standard library, so that serving can load it anywhere; the
names for many carts need NumPy, `carts_of_events` also Arrow, and are loaded on first use, as is
the compiled pricer for one cart with many offers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from promo_ray.offers.cart import (
    AppliedOffer,
    CapsLeft,
    Cart,
    CartLine,
    Context,
    Discount,
    GiftLine,
    PricedCart,
    PricedLine,
    PricedShipping,
    RejectedOffer,
    Shipping,
    Totals,
)
from promo_ray.offers.export import Exported, Imported, Loss, export_offer, import_offer
from promo_ray.offers.mechanics.amount_off import AmountOff
from promo_ray.offers.mechanics.base import Mechanic, Slot
from promo_ray.offers.mechanics.buy_get import BuyGet
from promo_ray.offers.mechanics.fixed_price import FixedPrice
from promo_ray.offers.mechanics.free_shipping import FreeShipping
from promo_ray.offers.mechanics.gift import Gift
from promo_ray.offers.mechanics.message import Message
from promo_ray.offers.mechanics.percent_off import PercentOff
from promo_ray.offers.mechanics.product_bundle import ProductBundle
from promo_ray.offers.mechanics.tiered import Tier, Tiered
from promo_ray.offers.offer import Offer, check_offers, from_terms, offer_schema
from promo_ray.offers.one_cart import price_cart
from promo_ray.offers.reasons import Reason
from promo_ray.offers.scope import Scope, Selection
from promo_ray.offers.terms import (
    Audience,
    Caps,
    Predicted,
    Provenance,
    Stacking,
    Trigger,
    Window,
)

if TYPE_CHECKING:
    from promo_ray.offers.batch import price_carts
    from promo_ray.offers.cart_batch import CartBatch, CartItem
    from promo_ray.offers.logged import carts_of_events
    from promo_ray.offers.priced_batch import PricedBatch
    from promo_ray.offers.simulate import OfferReplay, OfferSimulation, Threshold, simulate_offers

__all__ = [
    "AmountOff",
    "AppliedOffer",
    "Audience",
    "BuyGet",
    "Caps",
    "CapsLeft",
    "Cart",
    "CartBatch",
    "CartItem",
    "CartLine",
    "Context",
    "Discount",
    "Exported",
    "FixedPrice",
    "FreeShipping",
    "Gift",
    "GiftLine",
    "Imported",
    "Loss",
    "Mechanic",
    "Message",
    "Offer",
    "OfferReplay",
    "OfferSimulation",
    "PercentOff",
    "Predicted",
    "PricedBatch",
    "PricedCart",
    "PricedLine",
    "PricedShipping",
    "ProductBundle",
    "Provenance",
    "Reason",
    "RejectedOffer",
    "Scope",
    "Selection",
    "Shipping",
    "Slot",
    "Stacking",
    "Threshold",
    "Tier",
    "Tiered",
    "Totals",
    "Trigger",
    "Window",
    "carts_of_events",
    "check_offers",
    "export_offer",
    "from_terms",
    "import_offer",
    "offer_schema",
    "price_cart",
    "price_carts",
    "simulate_offers",
]

_HOMES = {
    "CartBatch": "cart_batch",
    "CartItem": "cart_batch",
    "OfferReplay": "simulate",
    "OfferSimulation": "simulate",
    "PricedBatch": "priced_batch",
    "Threshold": "simulate",
    "carts_of_events": "logged",
    "price_carts": "batch",
    "simulate_offers": "simulate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
