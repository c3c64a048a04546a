"""The last users: what the search knows so far, and the answer for those near a tie.

Everyone else is decided by prices. What they leave of each row is an exact integer (units of
`allocation.exact`); `allocation.finish` shares it among the gathered users.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.allocation.dual import Limits
from promo_ray.allocation.exact import from_units, total, total_units
from promo_ray.allocation.exact import units as exact_units
from promo_ray.allocation.finish import Few, Finish, NoFinish, Room, finish
from promo_ray.allocation.finish import UserLimits as Tree
from promo_ray.allocation.gather import Gather
from promo_ray.allocation.kernel import Floats, Ints, Where, decide, wide_value
from promo_ray.allocation.problem import Block, Rows
from promo_ray.allocation.relaxation import Relaxation
from promo_ray.allocation.scale import Scale
from promo_ray.allocation.survey import Survey

_WORK, _WORK_PER_ROW = 3_000_000, 150_000  # elementary steps of the exchanges of one finish
_WANTED, _WANTED_USERS = 1.4e-5, 10_000  # gap above which exchanges go deeper, of the bound
_WANTED_FALL = 0.75  # that gap falls with this power of the number of users


class Whole(NamedTuple):
    """A whole answer: prices of the decided, slots of the gathered users, exact sums.

    Attributes:
        value: value of everything given, currency.
        lam: `(R,)` prices that decide the users who were not gathered.
        where: rows, seed and size of ties, likewise.
        position: `(t,)` int64 gathered users, ascending.
        slots: `(t, q)` int32 their slots.
        slack: `(R,)` what is left of each row.
        n_split: users with parts of offers in the linear program.
    """

    value: float
    lam: Floats
    where: Where
    position: Ints
    slots: NDArray[np.int32]
    slack: Floats
    n_split: int


class Record:
    """Least bound and best answers seen.

    Attributes:
        bound: least exact dual value, currency.
        prices: `(R,)` prices of that bound.
        lower: largest value of a fractional allocation.
        best: best whole answer, None if none was found.
        where: rows, seed and size of ties of what is seen next.
    """

    def __init__(
        self, where: Where, rhs: Floats, scale: Scale, facts: Survey, tolerance: float
    ) -> None:
        self.where, self._rows, self._rhs = where, where.rows, rhs
        self._scale, self._largest, self._tolerance = scale, facts.largest, tolerance
        crowd = max(1.0, facts.n_users / _WANTED_USERS)
        self._wanted = _WANTED / crowd**_WANTED_FALL
        self.bound, self.prices, self.lower = np.inf, np.zeros(where.rows.n), -np.inf
        self.best: Whole | None = None
        self._spare: Callable[[], None] | None = None

    def see(self, bound: float, lam: Floats) -> None:
        """Note a bound."""
        if bound < self.bound:
            self.bound, self.prices = bound, lam

    def is_converged(self) -> bool:
        """Whether the bound is within the tolerance of a fractional allocation."""
        return bool(self.bound - self.lower <= self._tolerance * abs(self.bound))

    def finish(self, limits: Limits, lam: Floats, near: Gather, is_last: bool) -> Floats | None:
        """Share what the others leave among the gathered users; prices of that, None if none.

        A whole answer is sought when the certificate is good enough, or in the last attempt; it
        is kept if it is the best so far.
        """
        units = self._scale.units_at(lam)
        self.see(limits.cost(lam) + near.exact(units), lam)
        own = decide(near.users, self.where, lam, units.value).parts
        others = near.parts - own
        decided = total_units(others[0])
        few = few_of(near.users, self._rows)

        def is_worth(relaxed: Relaxation) -> bool:
            lower = from_units(decided + exact_units(relaxed.value))
            is_best, self.lower = lower > self.lower, max(self.lower, lower)
            if not self.is_converged():
                self._see_nearby(limits, lam, limits.within(relaxed.prices), near, others)
            if is_last or self.is_converged():
                return True
            if is_best:
                self._spare = whole
            return False

        room, tree = self._room(others), tree_of(self._rows, few)

        def attempt(is_worth: Callable[[Relaxation], bool]) -> Finish | Relaxation | NoFinish:
            target = 0.1 * self._tolerance * abs(self.bound)
            work, wanted = max(_WORK, _WORK_PER_ROW * self._rows.n), self._wanted * abs(self.bound)
            return finish(
                few, room, tree, lam, target=target, work=work, wanted=wanted, is_worth=is_worth
            )

        def whole() -> None:
            done = attempt(lambda _: True)
            if isinstance(done, Finish):
                self._keep(few, done, decided, lam, near)

        done = attempt(is_worth)
        if isinstance(done, NoFinish):
            return None
        if isinstance(done, Finish):
            self._keep(few, done, decided, lam, near)
        return limits.within(done.prices)

    def settle(self) -> None:
        """Seek a whole answer where the fractional one was best, if there is none yet."""
        if self.best is None and self._spare is not None:
            self._spare()

    def _keep(self, few: Few, done: Finish, decided: int, lam: Floats, near: Gather) -> None:
        value = from_units(decided + sum(exact_units(v) for v in few.value[done.taken].tolist()))
        self.lower = max(self.lower, value)
        if self.best is None or value > self.best.value:
            left = [np.inf if n is None else from_units(n) for n in done.left]
            slack = np.array([*left, *(-float(n) for n in done.missing)])
            slots = slots_of(few, done, near.slots, lam)
            self.best = Whole(value, lam, self.where, near.position, slots, slack, done.n_split)

    def _see_nearby(
        self, limits: Limits, lam: Floats, other: Floats, near: Gather, parts: Ints
    ) -> None:
        """Exact dual at other prices without a pass, if no user that was not gathered can change.

        No score changes by more than the change of prices times the largest use; users further
        from a tie than that keep their choice, so what they add to the dual is linear.
        """
        k, n = self._rows.n_budgets, self._rows.n_packing
        by_row = np.abs(other - lam) * self._largest
        # two choices differ in all budgets, but in two offers' rows and one floor at most
        change = float(by_row[:k].sum() + 2.0 * by_row[k:n].max(initial=0.0))
        change = (change + by_row[n:].max(initial=0.0)) * self._rows.limits.max_offers
        change += self.where.tie
        if len(near.margin) < near.n_users and near.bar <= change:
            return
        units = self._scale.units_at(other)
        own = wide_value(decide(near.users, self.where, other, units.value).wide, units.value)
        numbers = np.array([total(p) for p in parts])
        numbers[1 + self._rows.n_packing :] *= -1.0
        self.see(limits.cost(other) + float(own) + numbers[0] - other @ numbers[1:], other)

    def _room(self, others: Ints) -> Room:
        """What the users who were not gathered leave of each row."""
        n = self._rows.n_packing
        left: list[int | None] = []
        for limit, parts in zip(self._rhs[:n], others[1 : n + 1], strict=True):
            left.append(exact_units(limit) - total_units(parts) if np.isfinite(limit) else None)
        floors = np.ceil(-self._rhs[n:])
        served = [from_units(total_units(parts)) for parts in others[n + 1 :]]
        return Room(left, [int(f - s) for f, s in zip(floors, served, strict=True)])


def few_of(users: Block, rows: Rows) -> Few:
    """Eligible pairs of gathered users."""
    able = np.isfinite(users.value)
    user, slot = np.nonzero(able)
    offer = slot if users.offer_idx is None else users.offer_idx[user, slot].astype(np.int64)
    amount = np.ones(len(user))
    if users.capacity_use is not None:
        amount = users.capacity_use[user, slot].astype(np.float64)
    n = len(users.value)
    segment = np.full(n, -1, dtype=np.int64)
    if users.segment_idx is not None and rows.n_segments:
        segment = users.segment_idx.astype(np.int64)
    return Few(
        n,
        user,
        slot,
        users.value[user, slot].astype(np.float64),
        users.costs[:, user, slot].astype(np.float64),
        offer,
        amount,
        segment,
    )


def tree_of(rows: Rows, few: Few) -> Tree:
    """Limits per user as arrays."""
    limits = rows.limits
    n_ids = max(int(few.offer.max(initial=-1)) + 1, rows.n_offers)
    return Tree(
        np.array(limits.limit, dtype=np.int64),
        np.array(limits.parent, dtype=np.int64),
        limits.nodes(n_ids).astype(np.int64),
    )


def slots_of(few: Few, done: Finish, like: NDArray[np.int32], lam: Floats) -> NDArray[np.int32]:
    """`(t, q)` slots of the pairs taken, by falling score at prices lam, then -1."""
    k, n_offers = len(few.cost), len(done.left) - len(few.cost)
    score = few.value - lam[:k] @ few.cost
    if n_offers:
        score -= lam[k + few.offer] * few.amount
    slots = np.full_like(like, -1)
    pairs = np.flatnonzero(done.taken)
    pairs = pairs[np.lexsort((-score[pairs], few.user[pairs]))]
    user = few.user[pairs]
    turn = np.arange(len(pairs)) - np.searchsorted(user, user)
    slots[user, turn] = few.slot[pairs]
    return slots
