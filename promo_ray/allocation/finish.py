"""The whole answer over the users near a tie: linear program, whole start, exchanges; rows exact.

Everyone else is decided by prices. What they leave of each row is an exact integer (units of
`allocation.exact`); the answer here is checked against it in integers. Very few pairs are solved
to the optimum by branch and bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from promo_ray.allocation.exact import from_units, units
from promo_ray.allocation.exchange import Aim, Crowd, Flags, Floats, Ints, improve
from promo_ray.allocation.relaxation import (
    WHOLE,
    Cut,
    Relaxation,
    relax,
    whole_optimum,
)

_FEW_PAIRS = 200  # pairs that branch and bound takes whole
_MOST_NODES = 500
_MOST_CUTS = 10
_LAST_PAIRS = 4000  # pairs of the search made when no exchange reaches all rows
_MARGINS = (1e-13, 1e-11, 0.0)  # share of a row held back after float64 sums passed it


class UserLimits(NamedTuple):
    """Most offers of a user: a tree of nodes, nested sets of offers.

    Attributes:
        limit: `(g,)` int64 most offers within each node; node 0 is the root.
        parent: `(g,)` int64 parent of each node, -1 for the root; parents come first.
        node_of_offer: `(n_offer_ids,)` int64 smallest node that holds the offer.
    """

    limit: Ints
    parent: Ints
    node_of_offer: Ints


class Few(NamedTuple):
    """Users near a tie with their eligible pairs, by user ascending.

    Attributes:
        n_users: number of users.
        user: `(p,)` int64.
        slot: `(p,)` int64.
        value: `(p,)` float64, currency, may be negative.
        cost: `(k, p)` float64 >= 0.
        offer: `(p,)` int64 offer of each pair.
        amount: `(p,)` float64 >= 0 use of the offer's own row; ignored without offer rows.
        segment: `(n_users,)` int64 floor row of each user, -1 = none.
    """

    n_users: int
    user: Ints
    slot: Ints
    value: Floats
    cost: Floats
    offer: Ints
    amount: Floats
    segment: Ints


class Room(NamedTuple):
    """What the decided users leave.

    Attributes:
        left: exact units of each budget, then of each offer row; None = no limit.
        missing: users that each floor still needs; below 0: more than enough.
    """

    left: list[int | None]
    missing: list[int]


class Finish(NamedTuple):
    """A whole answer.

    Attributes:
        taken: `(p,)` pairs chosen; every row exact, limits of users kept.
        value: sum of their values, correctly rounded.
        relaxed: optimum of the linear program over these users.
        prices: `(R,)` its duals >= 0: budgets, offers, floors.
        n_split: users with parts of pairs in it.
        left: exact units left of each budget and offer row; None = no limit.
        missing: users each floor still needs, <= 0.
    """

    taken: Flags
    value: float
    relaxed: float
    prices: Floats
    n_split: int
    left: list[int | None]
    missing: list[int]


class NoFinish(NamedTuple):
    """No whole answer keeps all rows, or none was found.

    Attributes:
        reason: one line.
        lp_feasible: the linear program has an answer (parts of offers keep all rows).
    """

    reason: str
    lp_feasible: bool


def finish(
    few: Few,
    room: Room,
    limits: UserLimits,
    prices: Floats,
    *,
    target: float,
    work: int,
    wanted: float = math.inf,
    is_worth: Callable[[Relaxation], bool] = lambda _: True,
) -> Finish | Relaxation | NoFinish:
    """Choose pairs for the users near a tie.

    Args:
        few: users and pairs.
        room: what the others leave of the rows.
        limits: most offers of a user.
        prices: `(R,)` >= 0 near the optimal ones: budgets, offers, floors.
        target: stop once (relaxed - value) <= target, currency.
        work: elementary steps for exchanges, some nanoseconds each.
        wanted: (relaxed - value) above which the exchanges search deeper and longer, currency.
        is_worth: whether the linear program's answer is good enough to look for a whole one.

    Returns:
        The whole answer; the relaxation if it is not worth one; or that there is none.
    """
    if any(n is not None and n < 0 for n in room.left):
        return NoFinish("the decided users leave less than nothing of a row", False)
    kept = _can_fit(few, room, limits)
    crowd = _crowd(few, room, limits, kept)
    left = _floats(room)
    scale = float(np.abs(crowd.value).max(initial=0.0))
    error = max(1e-12 * scale * few.n_users, 0.5 * target)
    relaxed = relax(crowd, left, prices, error)
    if relaxed is None:
        return NoFinish("no answer with parts of offers keeps all rows", False)
    certificate = relaxed
    able = _able(few, limits)
    if (
        len(kept) < len(able) <= _LAST_PAIRS
    ):  # parts of pairs that do not fit whole count in the certificate
        certificate = relax(_crowd(few, room, limits, able), left, prices, error) or relaxed
    if not is_worth(certificate):
        return certificate
    taken = _searched(crowd, room, left, relaxed, Aim(target, wanted, work))
    is_short = taken is None or relaxed.value - math.fsum(crowd.value[taken]) > target
    if len(kept) <= (_LAST_PAIRS if taken is None else _FEW_PAIRS) and is_short:
        taken = _better(crowd, taken, _branched(crowd, room, left))
    if taken is None:
        return NoFinish("no whole answer that keeps all rows was found", True)
    over, missing = _exact_rest(crowd, room, taken)
    chosen = np.zeros(len(few.user), dtype=bool)
    chosen[kept[taken]] = True
    value = math.fsum(few.value[chosen].tolist())
    # the linear program is solved to a tolerance; a whole answer is one of its answers
    top = max(certificate.value, value)
    return Finish(chosen, value, top, certificate.prices, certificate.n_split, over, missing)


def _can_fit(few: Few, room: Room, limits: UserLimits) -> Ints:
    """Pairs that fit alone into every row and limit."""
    fits = np.zeros(len(few.user), dtype=bool)
    fits[_able(few, limits)] = True
    k = len(few.cost)
    for r, left in enumerate(room.left[:k]):
        if left is not None:
            _keep_below(fits, few.cost[r], np.full(len(fits), from_units(left)), [left], None)
    if len(room.left) > k:
        limit = _floats(Room(room.left[k:], []))
        _keep_below(fits, few.amount, limit[few.offer], room.left[k:], few.offer)
    return np.flatnonzero(fits)


def _able(few: Few, limits: UserLimits) -> Ints:
    """Pairs that a user may get."""
    blocked = limits.limit <= 0
    for node in range(1, len(limits.limit)):
        blocked[node] |= blocked[limits.parent[node]]
    return np.flatnonzero(np.isfinite(few.value) & ~blocked[limits.node_of_offer[few.offer]])


def _keep_below(
    fits: Flags, use: Floats, limit: Floats, left: list[int | None], row: Ints | None
) -> None:
    """Clear pairs whose use is above their row's limit; in exact units where rounding decides."""
    fits &= use <= limit
    for p in np.flatnonzero(fits & (use == limit) & (use > 0)).tolist():
        units_left = left[0 if row is None else int(row[p])]
        fits[p] = units_left is None or _units_up(float(use[p])) <= units_left


def _crowd(few: Few, room: Room, limits: UserLimits, kept: Ints) -> Crowd:
    """The pairs kept, as the search sees them."""
    user = few.user[kept]
    n_offers = len(room.left) - len(few.cost)
    start = np.searchsorted(user, np.arange(few.n_users + 1))
    return Crowd(
        start=start.astype(np.int64),
        user=np.ascontiguousarray(user, dtype=np.int64),
        value=np.ascontiguousarray(few.value[kept], dtype=np.float64),
        cost=np.ascontiguousarray(few.cost[:, kept], dtype=np.float64),
        offer=np.ascontiguousarray(few.offer[kept], dtype=np.int64),
        amount=np.ascontiguousarray(few.amount[kept], dtype=np.float64),
        segment=np.ascontiguousarray(few.segment, dtype=np.int64),
        limit=np.ascontiguousarray(limits.limit, dtype=np.int64),
        parent=np.ascontiguousarray(limits.parent, dtype=np.int64),
        node=np.ascontiguousarray(limits.node_of_offer[few.offer[kept]], dtype=np.int64),
        n_offers=n_offers,
        n_floors=len(room.missing),
    )


def _floats(room: Room) -> Floats:
    """Room of every row in float64; a floor: minus the users it needs."""
    left = [np.inf if n is None else from_units(n) for n in room.left]
    return np.array(left + [-float(n) for n in room.missing], dtype=np.float64)


def _units_up(value: float) -> int:
    return -units(-value)


def _exact_sum(values: Floats) -> int:
    """Sum in units, each value rounded up to whole ones (float32 numbers are whole)."""
    if not len(values):
        return 0
    _, exponent = np.frexp(values.max())
    shift = 50 - int(exponent)  # 2**13 such numbers stay below 2**63
    whole = np.ldexp(values, shift)
    if len(values) <= 1 << 12 and 0 <= 149 - shift and bool((whole == np.floor(whole)).all()):
        return int(whole.astype(np.int64).sum()) << (149 - shift)
    return sum(_units_up(v) for v in values.tolist())


def _exact_rest(crowd: Crowd, room: Room, taken: Flags) -> tuple[list[int | None], list[int]]:
    """Exact units left of budgets and offers, and users missing, after the pairs taken."""
    pairs = np.flatnonzero(taken)
    left: list[int | None] = []
    order = pairs[np.argsort(crowd.offer[pairs], kind="stable")]
    begin = np.searchsorted(crowd.offer[order], np.arange(crowd.n_offers + 1))
    for r, had in enumerate(room.left):
        if had is None:
            left.append(None)
        elif r < crowd.n_budgets:
            left.append(had - _exact_sum(crowd.cost[r, pairs]))
        else:
            o = r - crowd.n_budgets
            left.append(had - _exact_sum(crowd.amount[order[begin[o] : begin[o + 1]]]))
    segment = crowd.segment[np.unique(crowd.user[pairs])]
    served = np.bincount(segment[segment >= 0], minlength=crowd.n_floors).tolist()
    return left, [need - got for need, got in zip(room.missing, served, strict=True)]


def _is_kept(left: list[int | None], missing: list[int]) -> bool:
    return all(n is None or n >= 0 for n in left) and all(n <= 0 for n in missing)


def _searched(
    crowd: Crowd, room: Room, left: Floats, relaxed: Relaxation, aim: Aim
) -> Flags | None:
    """Whole shares of the linear program, then exchanges; None if rows cannot be reached."""
    start = relaxed.share >= WHOLE
    gap = relaxed.value - math.fsum(crowd.value[start].tolist())
    exact, missing = _exact_rest(crowd, room, start)
    after = _floats(Room(exact, missing))
    for margin in _MARGINS:
        found = improve(crowd, relaxed.prices, after, start, gap, aim)
        rest = _exact_rest(crowd, room, found)
        if _is_kept(*rest):
            return found
        is_over = (_floats(Room(*rest)) < 0) & np.isfinite(left)
        after[is_over] -= margin * np.abs(left[is_over])
    return None


def _better(crowd: Crowd, a: Flags | None, b: Flags | None) -> Flags | None:
    """The answer of higher value (branch and bound stops early, and has been seen to err)."""
    if a is None or b is None:
        return b if a is None else a
    return b if math.fsum(crowd.value[b]) > math.fsum(crowd.value[a]) else a


def _branched(crowd: Crowd, room: Room, left: Floats) -> Flags | None:
    """Branch and bound; an answer that breaks a row exactly (HiGHS allows 1e-6) is cut off."""
    cuts: list[Cut] = []
    for _ in range(_MOST_CUTS):
        taken = whole_optimum(crowd, left, cuts, _MOST_NODES)
        if taken is None:
            return None
        exact, missing = _exact_rest(crowd, room, taken)
        if _is_kept(exact, missing):
            return taken
        if any(n > 0 for n in missing):
            return None
        row = next(r for r, n in enumerate(exact) if n is not None and n < 0)
        if row < crowd.n_budgets:
            uses = crowd.cost[row] > 0
        else:
            uses = (crowd.offer == row - crowd.n_budgets) & (crowd.amount > 0)
        cuts.append(Cut(np.flatnonzero(taken & uses)))
    return None
