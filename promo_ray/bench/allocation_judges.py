"""Independent judges of an allocation: bound of any prices, exact excess of rows, exact value.

They use nothing of `promo_ray.allocation`, only NumPy and `math.fsum`, a chunk of users at a time.

Letters: n users, m slots, K budgets, O offer rows, S segments, R = K + O + S rows in that order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from promo_ray.bench.allocation_instances import CHUNK_USERS, Array, Floats, Instance


def lagrangian(instance: Instance, prices: Floats) -> float:
    """Dual value at any prices >= 0: no allocation, fractional ones included, is worth more.

        sum of prices x limits (floors negative) + sum over users of max(0, best score)

    Scores in float64, sums over chunks correctly rounded. Source: weak duality, see docs.
    """
    k, n_offers = len(instance.budgets), 0 if instance.capacity is None else len(instance.capacity)
    lam, mu, nu = np.split(np.asarray(prices, dtype=np.float64), [k, k + n_offers])
    signs = np.concatenate([np.ones(k + n_offers), -np.ones(len(nu))])
    terms = [p * s * b for p, s, b in zip(prices, signs, instance.limits(), strict=True) if p > 0]
    for own in _chunks(len(instance.value)):
        score = instance.value[own].astype(np.float64)
        for price, cost in zip(lam, instance.costs, strict=True):
            score -= price * cost[own].astype(np.float64)
        if n_offers:
            price = mu if instance.offer_idx is None else mu[instance.offer_idx[own]]
            score -= price if instance.capacity_use is None else price * instance.capacity_use[own]
        best = score.max(axis=1)
        if instance.segment_idx is not None:
            best += nu[instance.segment_idx[own]]
        terms.append(float(np.maximum(best, 0.0).sum()))
    return math.fsum(terms)


def excess(instance: Instance, choice: NDArray[np.int32]) -> Floats:
    """`(R,)` use of each row beyond its limit, floors: members short of it; <= 0 = kept.

    Each is the exact sum, rounded once, so that its sign is exact.
    """
    none = -np.inf
    over = [
        math.fsum(itertools.chain(_taken(cost, choice), [-limit])) if limit < np.inf else none
        for cost, limit in zip(instance.costs, instance.budgets.tolist(), strict=True)
    ]
    has_more = instance.capacity is not None or instance.floors is not None
    at = np.flatnonzero(choice >= 0) if has_more else np.empty(0, np.int64)
    if instance.capacity is not None:
        slot = choice[at]
        offer = slot if instance.offer_idx is None else instance.offer_idx[at, slot]
        order = np.argsort(offer, kind="stable")
        ends = np.searchsorted(offer[order], np.arange(len(instance.capacity) + 1))
        for (a, b), limit in zip(itertools.pairwise(ends), instance.capacity, strict=True):
            own = at[order[a:b]]
            use = instance.capacity_use
            used = [float(b - a)] if use is None else use[own, choice[own]].tolist()
            over.append(math.fsum([*used, -limit]) if limit < np.inf else none)
    if instance.segment_idx is not None and instance.floors is not None:
        served = np.bincount(instance.segment_idx[at], minlength=len(instance.floors))
        over.extend((instance.floors - served).tolist())
    return np.array(over)


def total_value(instance: Instance, choice: NDArray[np.int32]) -> float:
    """Value of a choice, exact but for one rounding."""
    return math.fsum(_taken(instance.value, choice))


def _taken(table: Array, choice: NDArray[np.int32]) -> Iterator[float]:
    for own in _chunks(len(choice)):
        at = np.flatnonzero(choice[own] >= 0)
        yield from table[own][at, choice[own][at]].tolist()


def _chunks(n: int) -> Iterator[slice]:
    return (slice(a, min(n, a + CHUNK_USERS)) for a in range(0, n, CHUNK_USERS))
