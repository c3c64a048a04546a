"""Users near a tie, gathered out of all blocks, and exact sums over everyone on the way.

Each block sends a bounded number of users and merges keep the bound: what travels does not grow
with the number of users.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.allocation.kernel import (
    Floats,
    Ints,
    Totals,
    Units,
    Where,
    decide,
    evaluate,
    merge_totals,
    settle,
    wide_value,
)
from promo_ray.allocation.problem import Block
from promo_ray.allocation.survey import cut, join, take

_BLOCK_USERS = 1 << 16
_LOOK_USERS = 1 << 13  # whose numbers stay in the cache between two looks at them


class Gather(NamedTuple):
    """Users picked out of all blocks, and exact sums over all users.

    Attributes:
        n_users: users looked at; `position` counts through them in block order.
        wide: `(2,)` int64 sum of the best scores.
        parts: `(1 + R, 256)` int64 exact value and use of the best slots.
        users: the users picked.
        position: `(t,)` int64, ascending.
        slots: `(t, q)` int32 best slots, -1 = none.
        margin: `(t,)` float64 loss by the nearest other choice; the least are kept.
        bar: no user that is not among them has a margin below this, currency.
    """

    n_users: int
    wide: Ints
    parts: Ints
    users: Block
    position: Ints
    slots: NDArray[np.int32]
    margin: Floats
    bar: float

    def exact(self, units: Units) -> float:
        """Sum of the best scores."""
        return float(wide_value(self.wide, units.value))


def gather_near_ties(
    block: Block, where: Where, lam: Floats, units: Units, n_keep: int, bar: float = np.inf
) -> Gather:
    """The `n_keep` users who lose least by another choice than their best, and exact sums.

    Args:
        block: users.
        where: rows, seed and size of ties.
        lam: `(R,)` prices.
        units: units of the sums.
        n_keep: most users gathered.
        bar: users who lose this or more need not be looked at, currency.
    """
    found: Gather | None = None
    for a in range(0, max(1, len(block.value)), _BLOCK_USERS):
        own = cut(block, a, a + _BLOCK_USERS)
        decided = decide(own, where, lam, units.value)
        near = np.flatnonzero(decided.margin < bar)
        kept = near[least(decided.margin[near], near, n_keep)]
        part = Gather(
            len(own.value),
            decided.wide,
            decided.parts,
            take(own, kept),
            kept,
            decided.slots[kept],
            decided.margin[kept],
            float(decided.margin[kept].max()) if len(kept) < len(near) else bar,
        )
        found = part if found is None else merge_gathers(n_keep, found, part)
    if found is None:
        raise ValueError("a block must have a part")
    return found


def merge_gathers(n_keep: int, a: Gather, b: Gather) -> Gather:
    """Users picked from two runs of blocks, the second after the first."""
    position = np.concatenate([a.position, b.position + a.n_users])
    margin = np.concatenate([a.margin, b.margin])
    kept = least(margin, position, n_keep)
    return Gather(
        a.n_users + b.n_users,
        settle(a.wide + b.wide),
        a.parts + b.parts,
        take(join([a.users, b.users]), kept),
        position[kept],
        np.concatenate([a.slots, b.slots])[kept],
        margin[kept],
        min(a.bar, b.bar, float(margin[kept].max()) if len(kept) < len(margin) else np.inf),
    )


def least(order: Floats, position: Ints, n_keep: int) -> Ints:
    """Indices of the `n_keep` smallest by (order, position), in order of position."""
    if len(order) > n_keep:
        bar = np.partition(order, n_keep - 1)[n_keep - 1]
        near = np.flatnonzero(order <= bar)
        near = near[np.lexsort((position[near], order[near]))][:n_keep]
        return np.sort(near)
    return np.arange(len(order))


class Look(NamedTuple):
    """One pass over all users: smoothed sums, and users near a tie if asked for."""

    totals: Totals
    near: Gather | None


def look(
    block: Block,
    where: Where,
    lam: Floats,
    tau: float,
    units: Units,
    n_keep: int,
    bar: float,
) -> Look:
    """Both kinds of sums while the numbers of a few thousand users are in the cache.

    Args:
        block: users.
        where: rows, seed and size of ties.
        lam: `(R,)` prices.
        tau: temperature, currency.
        units: units of the sums.
        n_keep: most users gathered; 0: none.
        bar: see `gather_near_ties`.
    """
    found: Look | None = None
    for a in range(0, max(1, len(block.value)), _LOOK_USERS):
        own = cut(block, a, a + _LOOK_USERS)
        near = gather_near_ties(own, where, lam, units, n_keep, bar) if n_keep else None
        part = Look(evaluate(own, where, lam, tau, units), near)
        found = part if found is None else merge_looks(n_keep, found, part)
    if found is None:
        raise ValueError("a block must have a part")
    return found


def merge_looks(n_keep: int, a: Look, b: Look) -> Look:
    """Sums over two runs of blocks, the second after the first."""
    both = None if a.near is None or b.near is None else merge_gathers(n_keep, a.near, b.near)
    return Look(merge_totals(a.totals, b.totals), both)
