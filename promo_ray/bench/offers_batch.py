"""Speed of pricing many carts at once, against one by one."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from promo_ray.bench.offers_cases import NOW
from promo_ray.bench.offers_rounds import judged
from promo_ray.offers import (
    AmountOff,
    BuyGet,
    CartBatch,
    CartItem,
    Context,
    FixedPrice,
    FreeShipping,
    Gift,
    Offer,
    PercentOff,
    ProductBundle,
    Scope,
    Slot,
    Tier,
    Tiered,
    Trigger,
    native,
    price_carts,
)
from promo_ray.offers.pricing import price_by_rules
from promo_ray.seeding import stream

_TARGET_RATIO = 100  # batched over scalar, per core
_TARGET_S = 10.0  # 10^6 carts x 8 offers on 2 cores
_CUSTOMER = Context(now=NOW, user_id="ann")


def typical_offers() -> list[Offer]:
    """Eight offers of a shop, one of each mechanic."""
    kinds: list[tuple[Any, dict[str, Any]]] = [
        (PercentOff(bp=1000), {"scope": Scope.of(categories=("d1",))}),
        (AmountOff(amount=500), {"trigger": Trigger(min_spend=5000)}),
        (Tiered(tiers=(Tier(min=3000, amount=300), Tier(min=6000, amount=900))), {}),
        (ProductBundle(slots=(_slot("d2"), _slot("d3")), bp=1500), {}),
        (BuyGet(buy=_slot("d4", 2), get=_slot("d4"), bp=5000), {}),
        (FixedPrice(price=199), {"scope": Scope.of(brands=("b7",))}),
        (FreeShipping(), {"trigger": Trigger(min_spend=4000)}),
        (Gift(sku="mug", unit_cost=100), {"trigger": Trigger(min_spend=8000)}),
    ]
    return [
        Offer(id=f"o{i}", currency="USD", mechanic=kind, **parts)
        for i, (kind, parts) in enumerate(kinds)
    ]


def _slot(category: str, quantity: int = 1) -> Slot:
    return Slot(scope=Scope.of(categories=(category,)), quantity=quantity)


def typical_carts(n: int, seed: int = 0) -> CartBatch:
    """Carts of 1 + Poisson(4) lines out of 2,000 items."""
    rng = stream(seed, "bench.offers.carts", n)
    items = tuple(CartItem(f"p{i:04d}", f"d{i % 6} > c{i % 40}", f"b{i % 50}") for i in range(2000))
    start = np.concatenate([[0], np.cumsum(1 + rng.poisson(4, n))])
    n_lines = int(start[-1])
    item = rng.integers(0, len(items), n_lines)
    price = rng.integers(99, 3000, len(items))[item]
    return CartBatch(
        currency="USD",
        items=items,
        start=start,
        item=item.astype(np.int32),
        list_price=price,
        quantity=1 + rng.poisson(0.4, n_lines),
        unit_cost=price * 7 // 10,
        is_on_sale=rng.random(n_lines) < 0.1,
        shipping_price=np.full(n, 499),
        shipping_method=np.zeros(n, np.int32),
    )


def _spent(work: Callable[[], Any]) -> tuple[float, float]:
    """Processor and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def _price_part(part: tuple[int, int]) -> float:
    """Processor seconds to price carts of a seed, in a process of its own; the draw not counted."""
    n, seed = part
    carts, offers = typical_carts(n, seed), typical_offers()
    return _spent(lambda: price_carts(carts, offers, _CUSTOMER))[0]


def _speeds(quick: bool) -> Iterator[dict[str, Any]]:
    n, n_scalar = (50_000, 500) if quick else (1_000_000, 3_000)
    offers, carts = typical_offers(), typical_carts(n)
    singles = [carts.cart(i) for i in range(n_scalar)]
    price_carts(carts.take(np.arange(1_000)), offers, _CUSTOMER)
    one, batched = [], []
    for _ in range(3 if quick else 5):
        one.append(_spent(lambda: [price_by_rules(c, offers, _CUSTOMER) for c in singles])[0])
        batched.append(_spent(lambda: price_carts(carts, offers, _CUSTOMER)))
    cpu = float(np.median([cpu for cpu, _ in batched]))
    scalar_us, batch_us = 1e6 * float(np.median(one)) / n_scalar, 1e6 * cpu / n
    about = {
        "n_offers": len(offers),
        "lines_per_cart": round(len(carts.item) / n, 2),
        "has_kernel": native.kernel is not None,
        "machine": platform.processor() or platform.machine(),
    }
    yield {
        "case": "one core",
        "n_carts": n,
        "scalar_us": round(scalar_us, 1),
        "batch_us": round(batch_us, 3),
        "carts_per_s": round(1e6 / batch_us),
        "ratio": round(scalar_us / batch_us),
        "target_ratio": _TARGET_RATIO,
        "clock": "process time",
        **about,
    }
    cpu, wall = _spent(lambda: price_carts(carts, offers, _CUSTOMER, n_threads=2))
    yield {
        "case": "two threads",
        "n_carts": n,
        "cpu_s": round(cpu, 2),
        "wall_s": round(wall, 2),
        "target_s": _TARGET_S * n / 10**6,
        **about,
    }
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(_price_part, [(100, 0)] * 2))  # start them
        start = time.perf_counter()
        spent = list(pool.map(_price_part, [(n // 2, 1), (n // 2, 2)]))
        wall = time.perf_counter() - start
    yield {
        "case": "two processes, each with half of the carts",
        "n_carts": n,
        "cpu_s": [round(s, 2) for s in spent],
        "wall_s_with_draw": round(wall, 2),
        "target_s": _TARGET_S * n / 10**6,
        **about,
    }


def records(quick: bool = False) -> Iterator[dict[str, Any]]:
    """Records of all this."""
    yield from _speeds(quick)
    yield judged(20_000 if quick else 1_000_000)
