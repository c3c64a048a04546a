"""Floors that no allocation can meet: which rows exclude each other, and what would fit.

The largest factor t on all floors is a linear program of the same shape: no values, one more
variable t in [0, 1] that needs t floor_g served users of every segment. Its dual prices (Farkas
prices) name the rows. Few users are solved whole by branch and bound; many by the dual, in which
t is one more user, worth 1, with its own smoothing.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from promo_ray.allocation.dual import Limits, descend
from promo_ray.allocation.exact import total
from promo_ray.allocation.finish import Few
from promo_ray.allocation.kernel import Floats, Pass, Units, Where, evaluate, merge_totals, read
from promo_ray.allocation.last import few_of, tree_of
from promo_ray.allocation.problem import Block, Rows
from promo_ray.allocation.scale import power_above
from promo_ray.allocation.survey import Survey
from promo_ray.errors import InfeasibleError
from promo_ray.execution.executor import Resident

_FEW_PAIRS = 300
_MOST_NODES = 300
_MOST_PASSES = 100
_LAST_TAU = 1e-6
_PRICED = 1e-6  # share of the largest priced row from which a row counts as named


def refuse_too_high(
    resident: Resident[Block], rows: Rows, rhs: Floats, seed: int, facts: Survey
) -> None:
    """Look at floors above the users of their segment who can get anything at all.

    Raises:
        InfeasibleError: there are such floors.
    """
    n = rows.n_packing
    able = np.array([total(parts) for parts in facts.parts[1 + n :]])
    short = np.flatnonzero(-rhs[n:] > able)
    if len(short):
        scale = float((able[short] / -rhs[n:][short]).min())
        named, more = [rows.name(n + int(g)) for g in short], 1.0
        if scale > 0:  # the other rows may allow less still
            lower = np.where(np.arange(rows.n) < n, rhs, scale * rhs)
            other = refuse(resident, rows, lower, seed, facts)
            more = other.max_floor_scale
            named += [name for name in other.rows if more < 1.0 - 1e-6 and name not in named]
        raise InfeasibleError(tuple(named), scale * more)


def refuse(
    resident: Resident[Block], rows: Rows, rhs: Floats, seed: int, facts: Survey
) -> InfeasibleError:
    """The error that says why there is no allocation.

    Args:
        resident: blocks of users.
        rows: shape of the rows.
        rhs: `(R,)` right-hand sides; minus the floor for floors.
        seed: seed of the ties.
        facts: the survey.
    """
    sample = facts.sample
    is_all = sample.users is not None and len(sample.position) == facts.n_users
    if sample.users is not None and is_all and np.isfinite(sample.users.value).sum() <= _FEW_PAIRS:
        scale, prices = _by_program(sample.users, rows, rhs)
    else:
        scale, prices = _by_dual(resident, rows, rhs, seed, facts)
        # rows of nothing have no price: they shut out who needs some of them
        is_shut = (rhs == 0) & (facts.largest > 0) & (np.arange(rows.n) < rows.n_packing)
        prices = np.where(is_shut, prices.max(initial=1.0), prices)
    weight = prices * np.where(np.isfinite(rhs), np.maximum(np.abs(rhs), facts.largest), 0.0)
    named = np.flatnonzero(weight > _PRICED * weight.max(initial=0.0))
    if not (named >= rows.n_packing).any():
        named = np.union1d(named, np.flatnonzero(rhs < 0))
    return InfeasibleError(tuple(rows.name(int(r)) for r in named), min(scale, 1.0))


def _by_program(users: Block, rows: Rows, rhs: Floats) -> tuple[float, Floats]:
    """Largest scale of a whole answer, and prices of the linear relaxation."""
    few = few_of(users, rows)
    matrix, limit = _program(few, rows, rhs)
    n, n_pairs = matrix.shape[1], len(few.user)
    target = np.zeros(n)
    target[-1] = -1.0
    solved = linprog(target, A_ub=matrix, b_ub=limit, bounds=(0, 1), method="highs")
    prices = np.maximum(0.0, -solved.ineqlin.marginals[: rows.n])
    is_whole = np.r_[np.ones(n_pairs), np.zeros(n - n_pairs)]
    if solved.fun < -1.0 + 1e-9:  # parts of offers would do: every row may be to blame
        prices = np.where(np.isfinite(rhs) & (rhs != 0), 1.0, 0.0)
    packing = np.arange(len(limit)) < rows.n_packing
    for margin in (0.0, 1e-7):  # the solver may break rows by 1e-6
        found = milp(
            target,
            constraints=LinearConstraint(matrix, -np.inf, limit * (1.0 - margin * packing)),
            integrality=is_whole,
            bounds=Bounds(0, 1),
            options={"node_limit": _MOST_NODES, "presolve": False},
        )
        if found.x is None:
            break
        taken = np.rint(found.x[:n_pairs])
        used = matrix[: rows.n_packing, :n_pairs] @ taken
        if (used <= limit[: rows.n_packing]).all():
            floor = -rhs[rows.n_packing :]
            segment = few.segment[np.unique(few.user[taken > 0])]
            inside = segment[segment >= 0]
            served = np.bincount(inside, minlength=rows.n_segments)
            return float((served[floor > 0] / floor[floor > 0]).min()), prices
    return float(max(0.0, -solved.fun)), prices


def _program(few: Few, rows: Rows, rhs: Floats) -> tuple[csr_array, Floats]:
    """Rows, user limits and served users over (pairs, served, t); all as <= limit."""
    n_pairs, n_users, k = len(few.user), few.n_users, rows.n_budgets
    pair = np.arange(n_pairs)
    tree = tree_of(rows, few)
    at: list[tuple[Any, Any, Any]] = []  # (row, column, number)
    for r in range(k):
        at.append((np.full(n_pairs, r), pair, few.cost[r]))
    if rows.n_offers:
        at.append((k + few.offer, pair, few.amount))
    served = n_pairs + np.arange(n_users)
    in_segment = few.segment >= 0
    floor = rows.n_packing + few.segment[in_segment]
    at.append((floor, served[in_segment], np.full(len(floor), -1.0)))
    floors = np.arange(rows.n_packing, rows.n)
    at.append((floors, np.full(len(floors), n_pairs + n_users), -rhs[floors]))
    at.append((rows.n + few.user, pair, np.full(n_pairs, -1.0)))  # served <= sum of its pairs
    at.append((rows.n + np.arange(n_users), served, np.ones(n_users)))
    limit = [np.where(rhs < 0, 0.0, rhs), np.zeros(n_users)]
    limit[0][rows.n_packing :] = 0.0
    node, start = tree.node_of_offer[few.offer].copy(), rows.n + n_users
    while (node >= 0).any():
        on = np.flatnonzero(node >= 0)
        at.append((start + node[on] * n_users + few.user[on], pair[on], np.ones(len(on))))
        node = np.where(node >= 0, tree.parent[node], -1)
    limit.append(np.repeat(tree.limit.astype(np.float64), n_users))
    row, column, number = (np.concatenate([a[i] for a in at]) for i in range(3))
    limits = np.concatenate(limit)
    shape = (len(limits), n_pairs + n_users + 1)
    matrix = csr_array((number, (row.astype(np.int64), column.astype(np.int64))), shape=shape)
    finite = np.isfinite(limits)
    matrix = csr_array(matrix.multiply(finite[:, None]))
    return matrix, np.where(finite, limits, 0.0)


def _by_dual(
    resident: Resident[Block], rows: Rows, rhs: Floats, seed: int, facts: Survey
) -> tuple[float, Floats]:
    """Least dual value and its prices: an upper bound of t, tight as smoothing falls."""
    n = rows.n_packing
    floors = np.where(np.arange(rows.n) >= n, -rhs, 0.0)
    money = 1.0 / floors.sum()
    largest = np.where((rhs == 0) & (np.arange(rows.n) < n), 0.0, np.inf)
    plain = rows._replace(value_factor=0.0, most=tuple(largest.tolist()))
    where = Where(plain, seed, 1e-6 * money)
    use_units = np.array([power_above(x * rows.limits.max_offers) for x in facts.largest])
    limits = _scale_limits(rows, rhs, facts, money)
    best: list[Any] = [np.inf, np.zeros(rows.n)]

    def at(lam: Floats, tau: float) -> Pass:
        units = Units(
            power_above(facts.largest_value + lam[n:].max(initial=0.0)), use_units, use_units
        )
        merged = resident.reduce(
            functools.partial(evaluate, where=where, lam=lam, tau=tau, units=units), merge_totals
        )
        found = _with_scale(read(merged, units, tau), lam, floors, tau / money)
        value = limits.cost(lam) + found.exact
        if value < best[0]:
            best[:] = value, lam
        return found

    start = np.where(floors > 0, money, 0.0)
    descend(at, limits, start, 0.3 * money, 0, _LAST_TAU * money, _MOST_PASSES)
    return float(best[0]), np.asarray(best[1])


def _scale_limits(rows: Rows, rhs: Floats, facts: Survey, money: float) -> Limits:
    packing = np.arange(rows.n) < rows.n_packing
    can_bind = np.isfinite(rhs) & (rhs > 0) & (facts.largest > 0)
    use = np.where(facts.use > 0, facts.use, facts.largest * max(1, facts.n_users))
    per_use = np.divide(1.0, use, out=np.ones(rows.n), where=use > 0)
    return Limits(
        np.where(packing, rhs, 0.0),
        np.where(packing, can_bind, rhs < 0),
        np.full(rows.n, np.inf),
        np.where(packing, per_use, money),
        money,
    )


def _with_scale(found: Pass, lam: Floats, floors: Floats, tau: float) -> Pass:
    """Adds the user t: worth 1, needs floor_g of each floor row."""
    score = 1.0 - float(lam @ floors)
    share = 1.0 / (1.0 + np.exp(-np.clip(score / tau, -700.0, 700.0)))
    return found._replace(
        exact=found.exact + max(0.0, score),
        smooth=found.smooth + tau * float(np.logaddexp(0.0, score / tau)),
        use=found.use + share * floors,
        curvature=found.curvature + share * (1.0 - share) / tau * np.outer(floors, floors),
    )
