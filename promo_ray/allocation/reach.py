"""Facts about all users that scale the search; one pass before it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from promo_ray.allocation.kernel import Floats, chunks, use_of
from promo_ray.allocation.problem import Block, Rows


class Reach(NamedTuple):
    """Facts about all users that scale the search.

    Attributes:
        n_users: number of users.
        best: sum over users of the best positive value.
        highest_price: `(R,)` price above which a row has no taker: max of value / use.
        use: `(R,)` use when every user takes the best value.
        largest_use: `(R,)` largest use by one pair of positive value.
        n_bad: pairs whose value is NaN or infinity, or whose use is not finite and >= 0.
    """

    n_users: int
    best: float
    highest_price: Floats
    use: Floats
    largest_use: Floats
    n_bad: int


def reach(block: Block, rows: Rows) -> Reach:
    """Facts about the users of a block."""
    best, use = 0.0, np.zeros(rows.n)
    price, largest = np.zeros(rows.n), np.zeros(rows.n)
    for chunk in chunks(block, rows, np.zeros(rows.n), 0):
        top = chunk.true.max(axis=1)
        best += float(np.maximum(top, 0.0).sum())
        users = np.flatnonzero(top > 0)
        at, slot = users + chunk.own.start, chunk.true[users].argmax(axis=1)
        use += use_of(block, rows, at, slot, np.ones(len(users)))
        gain = np.maximum(chunk.true, 0.0)
        _raise_to_largest(block, rows, chunk.own, gain, price, largest)
    return Reach(len(block.value), best, price, use, largest, _count_bad(block))


def _raise_to_largest(
    block: Block, rows: Rows, own: slice, gain: Floats, price: Floats, largest: Floats
) -> None:
    """Raise `price` and `largest` `(R,)` in place to gain / use and use of the pairs of a chunk."""
    for k in range(rows.n_budgets):
        ratio, amount = _ratio_and_use(gain, block.costs[k, own].astype(np.float64))
        price[k] = max(price[k], float(ratio.max()))
        largest[k] = max(largest[k], float(amount.max()))
    if rows.n_offers:
        given = np.ones_like(gain) if block.capacity_use is None else block.capacity_use[own]
        offer = np.tile(np.arange(gain.shape[1], dtype=np.int64), (len(gain), 1))
        if block.offer_idx is not None:
            offer = block.offer_idx[own].astype(np.int64)
        at = rows.n_budgets + offer
        ratio, amount = _ratio_and_use(gain, given.astype(np.float64))
        np.maximum.at(price, at, ratio)
        np.maximum.at(largest, at, amount)


def _ratio_and_use(gain: Floats, amount: Floats) -> tuple[Floats, Floats]:
    counts = (gain > 0) & (amount > 0)
    ratio: Floats = np.divide(gain, amount, out=np.zeros_like(gain), where=counts)
    return ratio, np.where(counts, amount, 0.0)


def _count_bad(block: Block) -> int:
    uses = [block.costs] if block.capacity_use is None else [block.costs, block.capacity_use]
    n_bad = int((~(block.value < np.inf)).sum())
    return n_bad + sum(int((~((u >= 0) & (u < np.inf))).sum()) for u in uses)


def merge_reach(a: Reach, b: Reach) -> Reach:
    """Facts about two sets of blocks."""
    price = np.maximum(a.highest_price, b.highest_price)
    largest = np.maximum(a.largest_use, b.largest_use)
    n_bad = a.n_bad + b.n_bad
    return Reach(a.n_users + b.n_users, a.best + b.best, price, a.use + b.use, largest, n_bad)
