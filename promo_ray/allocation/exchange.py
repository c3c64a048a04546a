"""Users near a tie as the compiled search sees them: losses at prices, exchanges that fill rows.

The steps themselves are in `_exchange.c`; everything here is float64 room. Exact rows are the
caller's (`finish`).
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.allocation.native import library

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


_MOST_LIST = 1000  # moves looked at together: 32-byte records of 2 * 195,000 twos, 19 MB in all
_SEED = 20231
_DEEP_WORK = 1.5e7  # steps: some five searches for six moves, 10 ms each


class Crowd(NamedTuple):
    """Users near a tie with their pairs, by user ascending; rows are budgets, offers, floors.

    Attributes:
        start: `(n_users + 1,)` int64 first pair of each user.
        user: `(p,)` int64.
        value: `(p,)` float64, finite.
        cost: `(k, p)` float64 >= 0, C order.
        offer: `(p,)` int64 offer of each pair.
        amount: `(p,)` float64 >= 0 use of the offer's row.
        segment: `(n_users,)` int64 floor row of each user, -1 = none.
        limit: `(g,)` int64 most pairs of a user in each node.
        parent: `(g,)` int64 parent of each node, -1 = root.
        node: `(p,)` int64 smallest node of each pair.
        n_offers: number of offer rows; 0: offers have no rows.
        n_floors: number of floor rows.
    """

    start: Ints
    user: Ints
    value: Floats
    cost: Floats
    offer: Ints
    amount: Floats
    segment: Ints
    limit: Ints
    parent: Ints
    node: Ints
    n_offers: int
    n_floors: int

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.start) - 1

    @property
    def n_budgets(self) -> int:
        """Number of budget rows."""
        return len(self.cost)

    @property
    def n_rows(self) -> int:
        """Number of rows, and of prices."""
        return self.n_budgets + self.n_offers + self.n_floors


class Losses(NamedTuple):
    """Best sets at prices.

    Attributes:
        best: `(n_users,)` reduced value of the best set, >= 0.
        taken: `(p,)` pairs of the best sets.
        loss: `(p,)` >= 0, what taking a pair left out, or leaving out one taken, costs at least.
    """

    best: Floats
    taken: Flags
    loss: Floats


def losses(crowd: Crowd, prices: Floats) -> Losses:
    """Best set of every user at prices, by the greedy on its limits (exact: a laminar matroid)."""
    best = np.zeros(crowd.n_users)
    taken = np.zeros(len(crowd.user), dtype=np.uint8)
    loss = np.zeros(len(crowd.user))
    prices = np.ascontiguousarray(prices, dtype=np.float64)
    out = (prices, best, taken, loss)
    if library().pr_losses(*_arguments(crowd), *(_at(a) for a in out)):
        raise MemoryError
    return Losses(best, taken.astype(bool), loss)


class Aim(NamedTuple):
    """When a search stops.

    Attributes:
        target: gap that is enough, currency.
        wanted: gap above which the search goes deeper (six moves at once) after a fifth of the
            work, until it is reached or `_DEEP_WORK` more steps are done, currency.
        work: elementary steps, some nanoseconds each.
    """

    target: float
    wanted: float
    work: int


def improve(
    crowd: Crowd, prices: Floats, room: Floats, taken: Flags, gap: float, aim: Aim
) -> Flags:
    """Exchange moves of single users until the gap is as aimed at or the work is done.

    Args:
        crowd: users and pairs.
        prices: `(R,)` >= 0.
        room: `(R,)` what `taken` leaves of each row; infinite = no limit, negative = lacking
            (repaired first, if moves can).
        taken: `(p,)` pairs chosen at the start; limits of users hold.
        gap: relaxed value less the value of `taken`.
        aim: when to stop.
    """
    chosen = taken.astype(np.uint8)
    room, prices = room.astype(np.float64), np.ascontiguousarray(prices, dtype=np.float64)
    gap_at = ctypes.c_double(gap)
    steps = library().pr_exchange(
        *_arguments(crowd),
        _at(prices),
        _at(room),
        _at(chosen),
        ctypes.byref(gap_at),
        aim.target,
        aim.wanted,
        float(aim.work),
        _DEEP_WORK,
        _MOST_LIST,
        _SEED,
    )
    if steps < 0:
        raise MemoryError
    return chosen.astype(bool)


def _arguments(crowd: Crowd) -> tuple[Any, ...]:
    """Sizes and addresses that both functions begin with."""
    arrays = (
        crowd.start,
        crowd.value,
        crowd.cost,
        crowd.offer,
        crowd.amount,
        crowd.segment,
        crowd.limit,
        crowd.parent,
        crowd.node,
    )
    sizes = (
        crowd.n_users,
        len(crowd.user),
        crowd.n_budgets,
        crowd.n_offers,
        crowd.n_floors,
        len(crowd.limit),
    )
    return (*sizes, *(_at(a) for a in arrays))


def _at(array: NDArray[Any]) -> int:
    return array.ctypes.data
