"""The linear program over the users near a tie, and for very few its whole optimum, by HiGHS.

Only pairs that could be in an optimum are handed over: those of least loss at the prices so far;
the duals of the small program price all others, and those that still gain join (column
generation, Gilmore and Gomory 1961). Users whose best set at the prices is far from any other
keep it and weigh on the rows as numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from promo_ray.allocation.exchange import Crowd, Flags, Floats, Ints, losses
from promo_ray.errors import PromoRayError

WHOLE = 1.0 - 1e-6  # share of a pair that counts as all of it
_MOST_ROUNDS = 12
_NEAR = 0.1  # share of the tolerance that pairs may lose and still join
_MANY = 500  # users handed over, above which only the nearest pairs of each go with them
_PER_USER = 3  # such pairs, on average
_MORE = 8  # growth of the number of users handed over from round to round


class Relaxation(NamedTuple):
    """Optimum of the linear program.

    Attributes:
        share: `(p,)` share of each pair.
        value: value of the optimum.
        prices: `(R,)` duals >= 0.
        n_split: users with parts of pairs.
    """

    share: Floats
    value: float
    prices: Floats
    n_split: int


class _Program(NamedTuple):
    """min cost.z with matrix z <= limit, 0 <= z <= 1; z = shares of `pairs`, then served users."""

    pairs: Ints
    cost: Floats
    matrix: csr_array
    limit: Floats
    rows: Ints  # rows of the crowd, the first of the matrix
    unit: Floats  # what each of `rows` was divided by
    money: float


def relax(crowd: Crowd, room: Floats, prices: Floats, tolerance: float) -> Relaxation | None:
    """Solve the linear program; None if it has no solution.

    Args:
        crowd: users and pairs.
        room: `(R,)` what the rows have for these users (a floor: minus the users it needs);
            infinite = no limit.
        prices: `(R,)` >= 0, near the optimal ones.
        tolerance: distance from the optimum allowed, currency.
    """
    at = losses(crowd, prices)
    held, user = at.taken, crowd.user
    nearest = np.full(crowd.n_users, np.inf)
    np.minimum.at(nearest, user, at.loss)
    order = np.argsort(nearest, kind="stable")
    n_active = 24 + 4 * min(crowd.n_rows, 64)
    is_active = np.zeros(crowd.n_users, dtype=bool)
    is_column = np.zeros(len(user), dtype=bool)
    solved, is_infeasible, gap = None, False, np.inf
    for _ in range(_MOST_ROUNDS):
        if solved is None:  # at first, and while the users handed over cannot keep the rows
            is_active[order[:n_active]] = True
            near = 4.0 * nearest[order[:n_active]].max(initial=0.0) + 1e-12
            if (n := int(is_active.sum())) > _MANY:
                near = min(near, _loss_of(at.loss, _PER_USER * n))
            n_active *= _MORE
        else:
            is_active[user[np.flatnonzero(at.taken != held)]] = True
            near = _NEAR * tolerance / max(1, crowd.n_users)
        is_all = bool(is_active.all())
        widens = is_active[user] & (
            held | at.taken | (at.loss <= near) | (is_infeasible and is_all)
        )
        if solved is not None and not (widens & ~is_column).any():
            return solved
        is_column |= widens
        solved = _solve(crowd, room, is_column, held & ~is_active[user])
        if solved is None:
            if is_all and is_infeasible:
                return None
            is_infeasible = is_all
            continue
        at = losses(crowd, solved.prices)
        finite = np.isfinite(room)
        bound = float(at.best.sum() + solved.prices[finite] @ room[finite])
        if bound - solved.value <= tolerance:
            return solved
        if is_active.sum() > _MANY and bound - solved.value > 0.5 * gap:
            break  # as near as HiGHS comes
        gap = bound - solved.value
    is_column[:] = True
    return _solve(crowd, room, is_column, np.zeros_like(held))


def _loss_of(loss: Floats, n: int) -> float:
    """The n-th least loss, infinite when there are not so many."""
    return float(np.partition(loss, n)[n]) if n < len(loss) else np.inf


def _solve(crowd: Crowd, room: Floats, in_program: Flags, fixed: Flags) -> Relaxation | None:
    """The program over some pairs, with others fixed to be taken."""
    rest = room - use_of(crowd, fixed)
    share = fixed.astype(np.float64)
    base = float(crowd.value[fixed].sum())
    pairs = np.flatnonzero(in_program)
    if not len(pairs):
        is_kept = bool((rest >= 0).all())
        return Relaxation(share, base, np.zeros(crowd.n_rows), 0) if is_kept else None
    program = _program(crowd, pairs, rest)
    solved = linprog(
        program.cost,
        A_ub=program.matrix,
        b_ub=program.limit,
        bounds=(0, 1),
        method="highs-ds",
    )
    if solved.status == 2:
        return None
    if solved.x is None:
        raise PromoRayError(f"HiGHS must solve the linear program of ties; got {solved.message}")
    share[pairs] = np.clip(solved.x[: len(pairs)], 0.0, 1.0)
    duals = -solved.ineqlin.marginals[: len(program.rows)] * program.money / program.unit
    prices = np.zeros(crowd.n_rows)
    prices[program.rows] = np.maximum(0.0, duals)
    is_part = (share > 1.0 - WHOLE) & (share < WHOLE)
    n_split = len(np.unique(crowd.user[is_part]))
    value = base + float(crowd.value[pairs] @ share[pairs])
    return Relaxation(share, value, prices, n_split)


def use_of(crowd: Crowd, taken: Flags) -> Floats:
    """`(R,)` use of each row by the pairs taken; a floor: minus the users served."""
    pairs = np.flatnonzero(taken)
    parts = [crowd.cost[:, pairs].sum(axis=1)]
    if crowd.n_offers:
        parts.append(np.bincount(crowd.offer[pairs], crowd.amount[pairs], crowd.n_offers))
    if crowd.n_floors:
        segment = crowd.segment[np.unique(crowd.user[pairs])]
        parts.append(-np.bincount(segment[segment >= 0], minlength=crowd.n_floors))
    return np.concatenate(parts).astype(np.float64)


def _program(crowd: Crowd, pairs: Ints, room: Floats) -> _Program:
    """Rows of the crowd that could bind, divided by their largest use; then limits of users."""
    n, k = len(pairs), crowd.n_budgets
    user, at = crowd.user[pairs], np.arange(len(pairs))
    row, column, entry = _triplets(crowd.cost[:, pairs])
    parts = [(row, column, entry)]
    if crowd.n_offers:
        parts.append((k + crowd.offer[pairs], at, crowd.amount[pairs]))
    served = np.zeros(0, dtype=np.int64)
    if crowd.n_floors:
        floor = k + crowd.n_offers + crowd.segment
        has_floor = crowd.segment[user] >= 0
        if crowd.limit[0] == 1:
            parts.append((floor[user[has_floor]], at[has_floor], np.full(has_floor.sum(), -1.0)))
        else:
            served = np.unique(user[has_floor])
            parts.append((floor[served], n + np.arange(len(served)), np.full(len(served), -1.0)))
    row, column, entry = (np.concatenate([p[i] for p in parts]) for i in range(3))
    unit = np.zeros(crowd.n_rows)
    np.maximum.at(unit, row, np.abs(entry))
    least = np.zeros(crowd.n_rows)
    np.add.at(least, row, np.maximum(entry, 0.0))
    is_floor = np.arange(crowd.n_rows) >= k + crowd.n_offers
    binds = np.isfinite(room) & np.where(is_floor, room < 0, least > room)
    unit[unit == 0] = 1.0
    rows = np.flatnonzero(binds)
    new_row = np.cumsum(binds) - 1
    kept = binds[row]
    own = (new_row[row[kept]], column[kept], entry[kept] / unit[row[kept]])
    more, limit = _limits(crowd, pairs, served, len(rows))
    row, column, entry = (np.concatenate([own[i], more[i]]) for i in range(3))
    limits = np.concatenate([room[rows] / unit[rows], limit])
    matrix = csr_array((entry, (row, column)), shape=(len(limits), n + len(served)))
    money = float(np.abs(crowd.value[pairs]).max(initial=0.0)) or 1.0
    cost = np.concatenate([-crowd.value[pairs] / money, np.zeros(len(served))])
    return _Program(pairs, cost, matrix, limits, rows, unit[rows], money)


def _triplets(dense: Floats) -> tuple[Ints, Ints, Floats]:
    row, column = np.nonzero(dense)
    return row, column, dense[row, column]


def _limits(
    crowd: Crowd, pairs: Ints, served: Ints, first: int
) -> tuple[tuple[Ints, Ints, Floats], Floats]:
    """Rows of users: at most `limit` pairs within each node; served only with a pair."""
    user, node, at = crowd.user[pairs], crowd.node[pairs], np.arange(len(pairs))
    keys, columns = [], []
    n_nodes = len(crowd.limit)
    for _ in range(n_nodes):
        inside = node >= 0
        keys.append(user[inside] * n_nodes + node[inside])
        columns.append(at[inside])
        node = np.where(inside, crowd.parent[node], -1)
        if not (node >= 0).any():
            break
    key, column = np.concatenate(keys), np.concatenate(columns)
    found, row, count = np.unique(key, return_inverse=True, return_counts=True)
    can_bind = count > crowd.limit[found % n_nodes]
    kept = can_bind[row]
    new_row = np.cumsum(can_bind) - 1
    row, column = first + new_row[row[kept]], column[kept]
    limit = crowd.limit[found[can_bind] % n_nodes].astype(np.float64)
    entry = np.ones(len(row))
    if len(served):
        begin = first + len(limit)
        is_own = np.isin(user, served)
        row = np.concatenate(
            [row, begin + np.searchsorted(served, user[is_own]), begin + np.arange(len(served))]
        )
        column = np.concatenate([column, at[is_own], len(pairs) + np.arange(len(served))])
        entry = np.concatenate([entry, np.full(is_own.sum(), -1.0), np.ones(len(served))])
        limit = np.concatenate([limit, np.zeros(len(served))])
    return (row, column, entry), limit


class Cut(NamedTuple):
    """Pairs that cannot all be taken together."""

    pairs: Ints


def whole_optimum(crowd: Crowd, room: Floats, cuts: list[Cut], n_nodes: int) -> Flags | None:
    """Best whole choice by branch and bound, at most `n_nodes` nodes (no clock).

    Args:
        crowd: users and pairs.
        room: as in `relax`.
        cuts: sets of pairs known not to fit.
        n_nodes: nodes of the search at most.

    Returns:
        `(p,)` pairs taken (rows hold to the tolerance of HiGHS), None without an answer.
    """
    pairs = np.arange(len(crowd.user))
    if not len(pairs):
        return np.zeros(0, dtype=bool)
    program = _program(crowd, pairs, room)
    n = len(program.cost)
    constraints = [LinearConstraint(program.matrix, -np.inf, program.limit)]
    for cut in cuts:
        weights = np.zeros((1, n))
        weights[0, cut.pairs] = 1.0
        constraints.append(LinearConstraint(weights, -np.inf, len(cut.pairs) - 1.0))
    solved = milp(
        program.cost,
        integrality=np.ones(n),
        bounds=Bounds(0, 1),
        constraints=constraints if len(program.limit) or cuts else (),
        options={"mip_rel_gap": 0.0, "node_limit": n_nodes, "presolve": False},
    )
    if solved.x is None:
        return None
    return np.asarray(solved.x[: len(pairs)] > 0.5)
