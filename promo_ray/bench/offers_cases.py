"""Random carts, offers and customers that use every part of the schema."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from promo_ray.offers import (
    AmountOff,
    Audience,
    BuyGet,
    Caps,
    CapsLeft,
    Cart,
    CartLine,
    Context,
    FixedPrice,
    FreeShipping,
    Gift,
    Mechanic,
    Message,
    Offer,
    PercentOff,
    ProductBundle,
    Scope,
    Selection,
    Shipping,
    Slot,
    Stacking,
    Tier,
    Tiered,
    Trigger,
    Window,
)

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
_PRICES = (0, 1, 2, 33, 99, 100, 333, 1050, 2499, 9999)
_ITEMS = tuple("abcdef")
_CATEGORIES = ("food", "food > tea", "toys", "")
_BRANDS = ("north", "south", "")
_TAGS = ("new", "bulky")


_Int = int  # `Draw.int` hides the name


class Case(NamedTuple):
    """One call of the pricer."""

    cart: Cart
    offers: tuple[Offer, ...]
    context: Context


class Draw:
    """Seeded choices; `chance` is a probability in [0, 1]."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def one(self, values: Sequence[Any]) -> Any:
        """One of the values."""
        return values[int(self._rng.integers(len(values)))]

    def some(self, values: Sequence[Any], most: int) -> tuple[Any, ...]:
        """Up to `most` different values, in their order."""
        n = int(self._rng.integers(min(most, len(values)) + 1))
        return tuple(values[i] for i in sorted(self._rng.permutation(len(values))[:n]))

    def int(self, low: _Int, high: _Int) -> _Int:
        """Integer in `[low, high]`."""
        return int(self._rng.integers(low, high + 1))

    def is_so(self, chance: float) -> bool:
        """True with a probability."""
        return bool(self._rng.random() < chance)

    def maybe(self, chance: float, low: _Int, high: _Int) -> _Int | None:
        """Integer in `[low, high]` with a probability, else None."""
        return self.int(low, high) if self.is_so(chance) else None

    def shuffled(self, values: Sequence[Any]) -> list[Any]:
        """The values in random order."""
        return [values[i] for i in self._rng.permutation(len(values))]


def draw_line(draw: Draw) -> CartLine:
    """Line of one of six items, some with two prices."""
    item = draw.one(_ITEMS)
    number = _ITEMS.index(item)
    price = _PRICES[number + 3 * draw.is_so(0.3)] if draw.is_so(0.7) else draw.int(0, 5000)
    return CartLine(
        item_id=item,
        list_price=price,
        quantity=draw.int(1, 4),
        category=_CATEGORIES[number % len(_CATEGORIES)],
        brand=_BRANDS[number % len(_BRANDS)],
        tags=_TAGS[: number % 3],
        unit_cost=price // 2 if draw.is_so(0.7) else None,
        is_on_sale=draw.is_so(0.15),
    )


def draw_cart(draw: Draw) -> Cart:
    """Cart of up to five lines."""
    shipping = None
    if draw.is_so(0.7):
        shipping = Shipping(price=draw.one((0, 1, 499, 995)), method=draw.one(("post", "bike")))
    lines = tuple(draw_line(draw) for _ in range(draw.int(0, 5)))
    return Cart(currency="USD", lines=lines, shipping=shipping)


def _selection(draw: Draw) -> Selection:
    kind = draw.one(("products", "categories", "brands", "tags"))
    values = {"products": _ITEMS, "categories": _CATEGORIES[:3], "brands": _BRANDS[:2]}
    return Selection(**{kind: draw.some(values.get(kind, _TAGS), 3)})


def draw_scope(draw: Draw, max_units: int | None = None) -> Scope:
    """Scope of everything, or of some of it."""
    include = _selection(draw) if draw.is_so(0.6) else Selection()
    exclude = _selection(draw) if draw.is_so(0.15) else Selection()
    if include.marks and include.marks <= exclude.marks:
        exclude = Selection()
    return Scope(
        include=include, exclude=exclude, skip_on_sale=draw.is_so(0.15), max_units=max_units
    )


def _tiered(draw: Draw) -> Tiered:
    basis = draw.one(("spend", "quantity"))
    low = draw.int(1, 2000) if basis == "spend" else draw.int(1, 4)
    mins = [low * k for k in range(1, draw.int(1, 3) + 1)]
    if draw.is_so(0.5):
        tiers = tuple(Tier(min=m, bp=draw.int(1, 10_000)) for m in mins)
    else:
        tiers = tuple(Tier(min=m, amount=draw.int(1, m)) for m in mins)
    repeat = low if len(mins) == 1 and tiers[0].amount is not None and draw.is_so(0.5) else None
    return Tiered(tiers=tiers, basis=basis, cumulative=draw.is_so(0.3), repeat_every=repeat)


def _bundle(draw: Draw) -> ProductBundle:
    slots = tuple(
        Slot(scope=draw_scope(draw), quantity=draw.int(1, 2)) for _ in range(draw.int(2, 3))
    )
    reward = draw.one(({"bp": draw.int(1, 10_000)}, {"amount": draw.int(1, 900)}, {"price": 500}))
    return ProductBundle(slots=slots, max_times=draw.maybe(0.3, 1, 2), **reward)


def draw_mechanic(draw: Draw) -> Mechanic:
    """Any mechanic; percentages more often than others."""
    bp, amount = draw.int(1, 10_000), draw.int(1, 3000)
    kind = draw.int(0, 10)
    if kind <= 2:
        return PercentOff(bp=bp, max_amount=draw.maybe(0.2, 1, 999))
    if kind == 3:
        return AmountOff(amount=amount)
    if kind == 4:
        return AmountOff(amount=amount, per="unit")
    if kind == 5:
        return FixedPrice(price=draw.int(0, 500))
    if kind == 6:
        return _tiered(draw)
    if kind == 7:
        return _bundle(draw)
    if kind == 8:
        slots = [Slot(scope=draw_scope(draw), quantity=draw.int(1, 2)) for _ in range(2)]
        pick = draw.one(("cheapest", "dearest"))
        return BuyGet(buy=slots[0], get=slots[1], bp=bp, pick=pick, max_times=draw.maybe(0.3, 1, 2))
    if kind == 9:
        return FreeShipping(max_amount=draw.maybe(0.3, 1, 600), methods=draw.some(("bike",), 1))
    return Gift(sku="mug", unit_cost=120) if draw.is_so(0.7) else Message()


def _caps(draw: Draw, layer: str, is_gift: bool) -> Caps:
    on_goods = layer != "shipping" and not is_gift
    return Caps(
        budget=draw.maybe(0.1, 1, 2000),
        uses=draw.maybe(0.1, 1, 9),
        uses_per_user=draw.maybe(0.1, 1, 3),
        per_user_money=draw.maybe(0.1, 1, 2000),
        per_order_money=None if is_gift else draw.maybe(0.15, 1, 1500),
        floor_price=draw.maybe(0.15, 0, 300) if on_goods else None,
        min_margin_bp=draw.maybe(0.15, 0, 6000) if on_goods else None,
    )


def _trigger(draw: Draw) -> Trigger:
    kind = draw.one(("automatic",) * 7 + ("shared_code", "unique_code", "member"))
    return Trigger(
        kind=kind,
        code="SPRING" if kind == "shared_code" else None,
        min_spend=draw.maybe(0.15, 1, 4000),
        min_units=draw.maybe(0.1, 1, 6),
        required_scope=draw_scope(draw) if draw.is_so(0.1) else None,
        spend_basis=draw.one(("list", "after_item")),
    )


def draw_offer(draw: Draw, offer_id: str) -> Offer:
    """Offer with any mechanic; groups are named after layer and rule, so that members agree."""
    mechanic = draw_mechanic(draw)
    layer = draw.one(mechanic.layers) if draw.is_so(0.4) else mechanic.layers[0]
    is_gift = isinstance(mechanic, Gift)
    rule = draw.one(("first", "all") if is_gift else ("best", "smallest", "first", "all"))
    is_grouped = draw.is_so(0.3)
    stacking = Stacking(
        layer=layer,
        priority=draw.int(0, 2),
        group=f"{layer}-{rule}" if is_grouped else None,
        in_group=rule if is_grouped else "all",
        exclusive=draw.is_so(0.1),
        stop=draw.is_so(0.1),
        combines_with=("item", "order", "shipping") if draw.is_so(0.85) else ("order", "shipping"),
        base=draw.one(("running", "initial")),
    )
    has_scope = layer != "shipping" and not is_gift
    max_units = draw.maybe(0.2, 1, 3) if mechanic.by_unit else None
    hold = draw.int(1, 5000) if draw.is_so(0.1) else 0
    audience = Audience(segments_none=("staff",) if draw.is_so(0.1) else (), holdout_bp=hold)
    end_at = NOW + timedelta(days=draw.int(-1, 30)) if draw.is_so(0.2) else None
    return Offer(
        id=offer_id,
        currency="USD",
        mechanic=mechanic,
        scope=draw_scope(draw, max_units) if has_scope else Scope(),
        trigger=_trigger(draw),
        audience=audience,
        window=Window(end_at=end_at),
        stacking=stacking,
        caps=_caps(draw, layer, is_gift),
    )


def draw_context(draw: Draw, offers: Sequence[Offer]) -> Context:
    """Customer; for some of the offers less is left than the caps say."""
    left = {
        o.id: CapsLeft(budget=draw.maybe(0.5, 0, 900), user_uses=draw.maybe(0.5, 0, 2))
        for o in offers
        if draw.is_so(0.2)
    }
    return Context(
        now=NOW,
        user_id=f"u{draw.int(0, 9999)}" if draw.is_so(0.9) else "",
        segments=frozenset(draw.some(("staff", "vip"), 1)),
        is_member=draw.is_so(0.5),
        n_orders=draw.int(0, 3),
        codes=frozenset({" spring"}) if draw.is_so(0.5) else frozenset(),
        unlocked=frozenset(o.id for o in offers if draw.is_so(0.5)),
        left=left,
        gift_stock=None if draw.is_so(0.5) else {"mug": draw.int(0, 2)},
    )


def draw_cases(rng: np.random.Generator, n: int, max_offers: int = 12) -> list[Case]:
    """Cases that share a pool of offers, since offers are dear to make."""
    draw = Draw(rng)
    pool = [draw_offer(draw, f"o{i:03d}") for i in range(max(24, n // 4))]
    cases = []
    for _ in range(n):
        offers = tuple(draw.shuffled(pool[: draw.int(24, len(pool))])[: draw.int(0, max_offers)])
        cases.append(Case(draw_cart(draw), offers, draw_context(draw, offers)))
    return cases
