"""Typed offers with exact integer-money cart pricing and a JSON form.

All money is int minor units (cents) of one ISO currency, all rates are int basis points. Nothing
here needs more than the standard library at run time, so that serving can load it anywhere.
"""

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
from promo_ray.offers.pricing import price_cart
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

__all__ = [
    "AmountOff",
    "AppliedOffer",
    "Audience",
    "BuyGet",
    "Caps",
    "CapsLeft",
    "Cart",
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
    "PercentOff",
    "Predicted",
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
    "Tier",
    "Tiered",
    "Totals",
    "Trigger",
    "Window",
    "check_offers",
    "export_offer",
    "from_terms",
    "import_offer",
    "offer_schema",
    "price_cart",
]
