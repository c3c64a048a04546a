"""Invariants of priced carts on random blocks of them, judged on arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np

from promo_ray.bench.offers_cases import NOW, Draw, draw_cart, draw_context, draw_offer
from promo_ray.offers import (
    CartBatch,
    Context,
    Gift,
    Offer,
    PercentOff,
    PricedBatch,
    Stacking,
    Window,
    price_carts,
)
from promo_ray.offers.eligibility import left_of
from promo_ray.offers.pricing import price_by_rules
from promo_ray.seeding import stream

_BLOCK = 5_000


class Round:
    """A block of random carts under random offers, and how it was priced."""

    def __init__(self, seed: int, block: int, n: int) -> None:
        """Carts take their items from an eighth as many; prices and quantities are drawn anew."""
        self.rng = stream(seed, "bench.offers.round", block)
        draw = Draw(self.rng)
        pool = [draw_cart(draw) for _ in range(max(50, n // 8))]
        few = CartBatch.of(pool)
        self.carts = few.take(self.rng.integers(0, len(few), n))
        lines = len(self.carts.item)
        price = np.where(
            self.rng.random(lines) < 0.5, self.carts.list_price, self.rng.integers(0, 5000, lines)
        )
        self.carts = replace(self.carts, list_price=price, quantity=self.rng.integers(1, 5, lines))
        self.offers = [draw_offer(draw, f"o{i:02d}") for i in range(draw.int(1, 12))]
        few_contexts = [draw_context(draw, self.offers) for _ in range(20)]
        self.contexts = [few_contexts[k] for k in self.rng.integers(0, 20, n)]
        self.draw = draw
        self.done = self.price(self.offers)

    def price(self, offers: Sequence[Offer], carts: CartBatch | None = None) -> PricedBatch:
        """Price the block, or its carts in another form."""
        return price_carts(carts or self.carts, offers, self.contexts, by_line=True)

    def split(self) -> CartBatch:
        """The carts with lines of one unit in random order."""
        carts = self.carts
        line = np.repeat(np.arange(len(carts.item)), carts.quantity)
        cart = np.repeat(np.arange(len(carts)), np.diff(carts.start))[line]
        line = line[np.lexsort((self.rng.random(len(line)), cart))]
        running = np.concatenate([[0], np.cumsum(carts.quantity)])
        return replace(
            carts,
            start=running[carts.start],
            item=carts.item[line],
            list_price=carts.list_price[line],
            quantity=np.ones(len(line), np.int64),
            unit_cost=carts.unit_cost[line],
            is_on_sale=carts.is_on_sale[line],
        )


def _per_cart(carts: CartBatch, by_line: Any) -> Any:
    running = np.concatenate([np.zeros((1, *by_line.shape[1:]), np.int64), by_line.cumsum(axis=0)])
    return np.diff(running[carts.start], axis=0)


def _sums(r: Round) -> Any:
    done, carts = r.done, r.carts
    by_line: Any = done.by_line
    goods = carts.list_price * carts.quantity
    is_bad_line = (done.pay < 0) | (done.pay > goods) | (goods - done.pay != by_line.sum(1))
    list_total, saving, shipping, off, pay, _ = done.totals.T
    per_offer = _per_cart(carts, by_line)
    is_shipping = np.array([o.layer == "shipping" for o in r.offers])
    return (
        (_per_cart(carts, is_bad_line.astype(np.int64)) > 0)
        | (list_total != _per_cart(carts, goods))
        | (saving != per_offer.sum(1))
        | (off != done.saving[:, is_shipping].sum(1))
        | ((off < 0) | (off > shipping))
        | (pay != list_total - saving + shipping - off)
        | (per_offer != done.saving)[:, ~is_shipping].any(1)
        | (per_offer[:, is_shipping] != 0).any(1)
    )


def _told(r: Round) -> Any:
    is_gift = np.array([isinstance(o.mechanic, Gift) for o in r.offers])
    gives = (r.done.saving > 0) | is_gift
    return (r.done.is_applied & ~gives).any(1) | (~r.done.is_applied & (r.done.saving > 0)).any(1)


def _caps(r: Round) -> Any:
    own = {id(context): k for k, context in enumerate(r.contexts)}
    limits = {key: _limits(r.offers, r.contexts[k]) for key, k in own.items()}
    return (r.done.cost > np.array([limits[id(c)] for c in r.contexts])).any(1)


def _limits(offers: Sequence[Offer], context: Context) -> list[int]:
    found = []
    for offer in offers:
        left = left_of(offer, context.left)
        caps = [left.budget, left.user_money, offer.caps.per_order_money]
        caps.append(getattr(offer.mechanic, "max_amount", None))
        found.append(min((cap for cap in caps if cap is not None), default=2**62))
    return found


def _split(r: Round) -> Any:
    other = r.price(r.offers, r.split())
    return (
        (other.totals != r.done.totals).any(1)
        | (other.outcome != r.done.outcome).any(1)
        | (other.saving != r.done.saving).any(1)
    )


def _ineligible(r: Round) -> Any:
    past = Window(end_at=NOW - timedelta(days=1))
    over = Offer(id="aa", currency="USD", mechanic=PercentOff(bp=5000), window=past)
    other = r.price([over, *r.offers[::-1]])
    is_bad_line = (other.pay != r.done.pay).astype(np.int64)
    outcome = other.outcome[:, 1:][:, ::-1]
    return (_per_cart(r.carts, is_bad_line) > 0) | (outcome != r.done.outcome).any(1)


def _deeper(r: Round) -> Any:
    is_bad = np.zeros(len(r.carts), np.bool_)
    for offer in r.offers:
        if isinstance(offer.mechanic, PercentOff):
            deeper = min(10_000, offer.mechanic.bp + r.draw.one((1, 1, 50, 5000)))
            raised = replace(offer, mechanic=replace(offer.mechanic, bp=deeper))
            is_bad |= r.price([raised]).totals[:, 4] > r.price([offer]).totals[:, 4]
    return is_bad


def _floors(r: Round) -> Any:
    is_bad = np.zeros(len(r.carts), np.bool_)
    carts = r.split()
    for offer in r.offers:
        floor, margin = offer.caps.floor_price, offer.caps.min_margin_bp
        if floor is None and margin is None:
            continue
        pay = r.price([offer], carts).pay
        is_low = pay < np.minimum(carts.list_price, floor or 0)
        if margin is not None:
            is_thin = (pay - carts.unit_cost) * 10_000 < margin * pay
            is_low |= (pay < carts.list_price) & (is_thin | (carts.unit_cost < 0))
        is_bad |= _per_cart(carts, is_low.astype(np.int64)) > 0
    return is_bad


def _best(r: Round) -> Any:
    best = Stacking(group="g", in_group="best", layer="item")
    offers = [
        replace(o, stacking=best)
        for o in r.offers
        if "item" in o.mechanic.layers and o.layer != "shipping"
    ][:4]
    alone = [r.price([offer]).totals[:, 1] for offer in offers]
    together = r.price(offers).totals[:, 1]
    return together != np.max([*alone, np.zeros(len(r.carts), np.int64)], axis=0)


def _one_by_one(r: Round) -> Any:
    """A sample against the pricer of one cart."""
    is_bad = np.zeros(len(r.carts), np.bool_)
    for i in range(0, len(r.carts), 100):
        is_bad[i] = r.done.cart(i) != price_by_rules(r.carts.cart(i), r.offers, r.contexts[i])
    return is_bad


JUDGES: dict[str, Callable[[Round], Any]] = {
    "every cent has an offer, prices stay in range": _sums,
    "who applied gave something": _told,
    "caps hold": _caps,
    "order and split of lines do not matter": _split,
    "ineligible offers and order of offers do not matter": _ineligible,
    "deeper percentages never cost more": _deeper,
    "floors and margins hold": _floors,
    "best of a group saves most": _best,
    "1 in 100 equals price_by_rules": _one_by_one,
}


def judged(n: int, seed: int = 3) -> dict[str, Any]:
    """Random carts that break an invariant, by judge; must be none."""
    found: Counter[str] = Counter()
    n_applied = done = 0
    while done < n:
        r = Round(seed, done, min(_BLOCK, n - done))
        for name, judge in JUDGES.items():
            found[name] += int(judge(r).sum())
        n_applied += int(r.done.is_applied.sum())
        done += len(r.carts)
    return {
        "case": "invariants of many carts",
        "n_carts": done,
        "applied_per_cart": round(n_applied / done, 2),
        "violations": dict(found),
        "total": sum(found.values()),
        "target": 0,
    }
