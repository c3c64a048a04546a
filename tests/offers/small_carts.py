"""Short words for carts and offers of the tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from promo_ray.offers import Cart, CartLine, Context, Offer, PricedCart, Shipping, price_cart

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)  # a Monday


def offer(offer_id: str, mechanic: Any, **parts: Any) -> Offer:
    return Offer(id=offer_id, currency="USD", mechanic=mechanic, **parts)


def line(item_id: str, price: int, quantity: int = 1, **fields: Any) -> CartLine:
    return CartLine(item_id=item_id, list_price=price, quantity=quantity, **fields)


def price(
    lines: list[CartLine], *offers: Offer, shipping: int | None = None, **facts: Any
) -> PricedCart:
    cart = Cart(
        currency="USD",
        lines=tuple(lines),
        shipping=None if shipping is None else Shipping(price=shipping, method="post"),
    )
    return price_cart(cart, offers, Context(**{"now": NOW, **facts}))


def reasons(priced: PricedCart) -> dict[str, str]:
    return {r.offer_id: r.reason.value for r in priced.rejected}


def savings(priced: PricedCart) -> dict[str, int]:
    return {a.offer_id: a.saving for a in priced.applied}


def pays(priced: PricedCart) -> list[int]:
    return [row.pay for row in priced.lines]
