"""Time of pricing one cart and many; every record says what it was measured on."""

from __future__ import annotations

import gc
import platform
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from promo_ray.bench.offers_batch import records as many_carts
from promo_ray.bench.offers_cases import NOW, Case, Draw, draw_cases
from promo_ray.bench.offers_judges import violations
from promo_ray.offers import (
    AmountOff,
    Audience,
    Cart,
    CartLine,
    Context,
    Offer,
    PercentOff,
    Scope,
    Shipping,
    Stacking,
    Tier,
    Tiered,
    native,
    price_cart,
)
from promo_ray.offers.pricing import price_by_rules
from promo_ray.seeding import stream

_TARGET_P99_MS = 2.0  # of one cart of 10 lines with 100 offers
_N_LINES = 10
_N_OFFERS = 100


def _lines(rng: np.random.Generator) -> tuple[CartLine, ...]:
    return tuple(
        CartLine(
            item_id=f"i{rng.integers(1000)}",
            list_price=int(rng.integers(99, 9999)),
            quantity=int(rng.integers(1, 5)),
            category=f"c{k % 4} > s{k}",
            brand=f"b{k % 3}",
            unit_cost=50,
        )
        for k in range(_N_LINES)
    )


def _all_apply(rng: np.random.Generator) -> tuple[Offer, ...]:
    """Worst case: 100 offers that all apply to every line."""
    kinds = (PercentOff(bp=100), AmountOff(amount=25), AmountOff(amount=2, per="unit"))
    return tuple(
        Offer(id=f"o{i:03d}", currency="USD", mechanic=kinds[i % 3]) for i in range(_N_OFFERS)
    )


def _of_a_shop(rng: np.random.Generator) -> tuple[Offer, ...]:
    """100 active offers of a shop: by category and brand, by segment, thresholds, groups."""
    offers = []
    for i in range(_N_OFFERS):
        scope = Scope.of(categories=(f"c{i % 8} > s{i % 20}",)) if i % 3 else Scope()
        audience = Audience(segments_any=(f"g{i % 5}",)) if i % 2 else Audience(holdout_bp=500)
        tiers = (Tier(min=5000, amount=500), Tier(min=10_000, amount=1500))
        mechanic = Tiered(tiers=tiers) if i % 7 == 0 else PercentOff(bp=500 + 10 * i)
        group = f"{mechanic.layers[0]}{i % 4}"
        stacking = Stacking(priority=i % 5, group=group, in_group="best")
        offers.append(
            Offer(
                id=f"o{i:03d}",
                currency="USD",
                mechanic=mechanic,
                scope=scope,
                audience=audience,
                stacking=stacking,
            )
        )
    return tuple(offers)


def run(quick: bool = False) -> Iterator[dict[str, Any]]:
    """Records: milliseconds per cart with 100 offers, many carts, violations on random carts."""
    n_carts = 300 if quick else 2000
    for name, make in (("all 100 apply", _all_apply), ("100 of a shop", _of_a_shop)):
        rng = stream(0, "bench.offers", name)
        offers = make(rng)
        yield _timed(name, [Case(_cart(rng), offers, _customer(i)) for i in range(n_carts)])
    rng = stream(1, "bench.offers")
    yield _timed("random, up to 12 offers", draw_cases(rng, n_carts))
    yield _judged(2_000 if quick else 100_000)
    yield from many_carts(quick)


def _cart(rng: np.random.Generator) -> Cart:
    return Cart(currency="USD", lines=_lines(rng), shipping=Shipping(price=499))


def _customer(i: int) -> Context:
    return Context(now=NOW, user_id=f"u{i}", segments=frozenset({f"g{i % 5}", f"g{i % 3}"}))


def _timed(name: str, cases: list[Case]) -> dict[str, Any]:
    """Milliseconds of processor time per cart, each cart new to the pricer.

    Turn by turn with the pricer that the compiled one is judged by.
    """
    spent: dict[Any, list[float]] = {price_cart: [], price_by_rules: []}
    n_applied = n_differ = 0
    gc.collect()
    gc.freeze()  # as servers do, or collections of the benchmark's own objects are measured
    for case in cases:
        priced = []
        for pricer, own in spent.items():
            start = time.process_time_ns()
            priced.append(pricer(*case))
            own.append((time.process_time_ns() - start) / 1e6)
        n_applied += len(priced[0].applied)
        n_differ += priced[0] != priced[1]
    gc.unfreeze()
    (p50, p99), (rules_p50, rules_p99) = (np.percentile(own, [50, 99]) for own in spent.values())
    return {
        "case": f"price_cart, {name}",
        "n_carts": len(cases),
        "applied_per_cart": round(n_applied / len(cases), 1),
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "target_p99_ms": _TARGET_P99_MS,
        "by_rules_p50_ms": round(float(rules_p50), 3),
        "by_rules_p99_ms": round(float(rules_p99), 3),
        "n_differ": n_differ,
        "has_kernel": native.kernel is not None,
        "clock": "process time",
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }


def _judged(n: int) -> dict[str, Any]:
    """Random carts that break an invariant; must be none."""
    found, done, block = 0, 0, 2000
    while done < n:
        rng = stream(2, "bench.offers.judged", done)
        draw = Draw(rng)
        cases = draw_cases(rng, min(block, n - done))
        found += sum(bool(violations(case, draw)) for case in cases)
        done += len(cases)
    return {"case": "invariants on random carts", "n_carts": done, "violations": found, "target": 0}
