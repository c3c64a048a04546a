"""Independent answers: linear and whole programs by HiGHS, enumeration, exact sums, the dual."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from allocation_cases import Case
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array, hstack

_FINE = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
_MOST_STATES = 2_000_000
_MOST_SECONDS = 3.0  # branch and bound; sums of subsets that tie exactly can take for ever


class Program(NamedTuple):
    """max gain . z with matrix z <= limit, 0 <= z <= 1; z = eligible pairs, then served users."""

    gain: np.ndarray
    matrix: csr_array
    limit: np.ndarray
    user: np.ndarray
    slot: np.ndarray
    floor_rows: np.ndarray


def program_of(case: Case) -> Program:
    """Rows: users, groups per user, budgets, capacities, served <= offers, floors."""
    n = len(case.value)
    user, slot = np.nonzero(np.isfinite(case.value))
    pair, n_pairs = np.arange(len(user)), len(user)
    entries: list[tuple[np.ndarray, np.ndarray, Any]] = []
    limit: list[np.ndarray] = []

    def add(row: np.ndarray, column: np.ndarray, amount: Any, right: Any) -> None:
        start = sum(len(part) for part in limit)
        entries.append((row + start, column, np.broadcast_to(amount, row.shape)))
        limit.append(np.asarray(right, dtype=float))

    add(user, pair, 1.0, np.full(n, case.max_offers))
    offer = case.offer[user, slot]
    for members, most in case.groups or ():
        inside = np.isin(offer, list(members))
        add(user[inside], pair[inside], 1.0, np.full(n, most))
    for k, budget in enumerate(case.budgets):
        add(np.zeros_like(user), pair, case.costs[k, user, slot].astype(float), [budget])
    if case.capacity is not None:
        add(offer.astype(int), pair, case.use[user, slot].astype(float), case.capacity)
    gain = np.concatenate([case.value[user, slot].astype(float), np.zeros(n)])
    add(user, pair, -1.0, np.zeros(n))
    limit_row, served = len(limit) - 1, n_pairs + np.arange(n)
    entries.append((sum(map(len, limit[:limit_row])) + np.arange(n), served, np.ones(n)))
    first_floor = sum(map(len, limit))
    if case.floors is not None and case.segment_idx is not None:
        inside = case.segment_idx >= 0
        floors = -np.asarray(case.floors, dtype=float)
        add(case.segment_idx[inside].astype(int), served[inside], -1.0, floors)
    rows, columns, amounts = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    right = np.concatenate(limit)
    matrix = csr_array((amounts, (rows, columns)), shape=(len(right), n_pairs + n))
    floor_rows = np.arange(first_floor, len(right))
    return Program(gain, matrix, right, user, slot, floor_rows)


def linear_optimum(case: Case, method: str = "highs") -> float | None:
    """Best fractional value; None: the rows exclude each other."""
    program = program_of(case)
    if not len(program.gain):
        return 0.0 if not (case.limits[len(case.limits) - case.n_floors :] > 0).any() else None
    kept = np.isfinite(program.limit)
    found = linprog(
        -program.gain,
        A_ub=program.matrix[kept],
        b_ub=program.limit[kept],
        bounds=(0, 1),
        method=method,
        options=_FINE,
    )
    if found.status == 2:
        return None
    if found.status != 0:
        raise RuntimeError(found.message)
    return -float(found.fun)


class Whole(NamedTuple):
    """Best whole value, in [least, most]; `least` is reached by an answer that keeps the rows."""

    least: float
    most: float


def whole_optimum(case: Case) -> Whole | None:
    """Best whole value by branch and bound; None: there is no answer.

    HiGHS may break rows by 1e-6; an answer that does is replaced by that of narrower rows.
    """
    found = _branch(case, 0.0)
    if found is None or math.isfinite(found.least):
        return found
    within = _branch(case, 4e-6)
    return Whole(-math.inf if within is None else within.least, found.most)


def _branch(case: Case, narrower: float) -> Whole | None:
    program = program_of(case)
    kept = np.isfinite(program.limit)
    limit = program.limit[kept]
    fraction = np.abs(program.matrix[kept] - program.matrix[kept].astype(int)).sum(axis=1) > 0
    limit = np.where(fraction, limit - narrower * (1 + np.abs(limit)), limit)
    found = milp(
        -program.gain,
        constraints=LinearConstraint(program.matrix[kept], -np.inf, limit),
        integrality=np.ones(len(program.gain)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0, "time_limit": _MOST_SECONDS},
    )
    if found.status == 2:
        return None
    if found.status not in (0, 1):
        raise RuntimeError(found.message)
    if found.x is None:
        return Whole(-math.inf, math.inf)
    taken = np.flatnonzero(found.x[: len(program.user)] > 0.5)
    user, slot = program.user[taken], program.slot[taken]
    value = math.fsum(case.value[user, slot].tolist())
    most = value if found.status == 0 else -float(found.mip_dual_bound)
    return Whole(-math.inf if broken_rows(case, user, slot) else value, most)


def largest_scale(case: Case, most: float = 10.0, *, is_whole: bool = False) -> float:
    """Largest factor on all floors, up to `most`, that leaves a fractional or a whole answer."""
    program = program_of(case)
    floors = np.zeros(len(program.limit))
    floors[program.floor_rows] = case.floors
    limit = program.limit.copy()
    limit[program.floor_rows] = 0.0
    kept = np.isfinite(limit)
    matrix = hstack([program.matrix, csr_array(floors[:, None])]).tocsr()
    n = len(program.gain)
    goal, highest = np.append(np.zeros(n), -1.0), np.append(np.ones(n), most)
    if is_whole:
        found = milp(
            goal,
            constraints=LinearConstraint(matrix[kept], -np.inf, limit[kept]),
            integrality=np.append(np.ones(n), 0),
            bounds=Bounds(0, highest),
            options={"mip_rel_gap": 0.0, "time_limit": _MOST_SECONDS},
        )
    else:
        bounds = np.column_stack([np.zeros(n + 1), highest])
        found = linprog(goal, A_ub=matrix[kept], b_ub=limit[kept], bounds=bounds, options=_FINE)
    return -float(found.fun)


def brute_force(case: Case) -> float | None:
    """Best whole value by trying everything, user by user; None: there is no answer."""
    n_budgets, floors = len(case.budgets), case.limits[len(case.limits) - case.n_floors :]
    most = case.limits[: len(case.limits) - case.n_floors]
    value, use = np.zeros(1), np.zeros((1, len(most)))
    served = np.zeros((1, len(floors)), dtype=int)
    for user in range(len(case.value)):
        sets = list(_sets_of(case, user))
        gain = np.array([case.value[user, s].astype(float).sum() for s in sets])
        more = np.zeros((len(sets), len(most)))
        for row, slots in enumerate(sets):
            more[row, :n_budgets] = case.costs[:, user, slots].astype(float).sum(axis=1)
            if case.capacity is not None:
                np.add.at(more[row], n_budgets + case.offer[user, slots], case.use[user, slots])
        is_served = np.zeros((len(sets), len(floors)), dtype=int)
        if case.segment_idx is not None and len(floors) and case.segment_idx[user] >= 0:
            is_served[:, case.segment_idx[user]] = [len(s) > 0 for s in sets]
        if len(value) * len(sets) > _MOST_STATES:
            raise RuntimeError("too many states for enumeration")
        value = (value[:, None] + gain).ravel()
        use = (use[:, None] + more).reshape(len(value), -1)
        served = (served[:, None] + is_served).reshape(len(value), -1)
        fits = (use <= most).all(axis=1)
        value, use, served = value[fits], use[fits], served[fits]
    is_met = (served >= floors).all(axis=1)
    return float(value[is_met].max()) if is_met.any() else None


def _sets_of(case: Case, user: int) -> list[list[int]]:
    """Every set of slots that one user may get."""
    able = np.flatnonzero(np.isfinite(case.value[user])).tolist()
    found: list[list[int]] = [[]]
    for slot in able:
        found += [[*s, slot] for s in found if len(s) < case.max_offers]
    limits = [(set(members), most) for members, most in case.groups or ()]
    offer = case.offer[user]
    return [
        s for s in found if all(sum(offer[j] in group for j in s) <= most for group, most in limits)
    ]


def exact_sum(values: np.ndarray) -> Fraction:
    """Sum of float32 numbers without rounding: integers per binary exponent."""
    fraction, exponent = np.frexp(np.asarray(values, dtype=np.float32).astype(np.float64))
    whole = (fraction * 2.0**24).astype(np.int64)
    total = Fraction(0)
    for power in np.unique(exponent).tolist():
        total += Fraction(2) ** (power - 24) * int(whole[exponent == power].sum())
    return total


def exact_use(case: Case, user: np.ndarray, slot: np.ndarray) -> list[Fraction]:
    """Use of each budget and capacity, and served users of each floor, by chosen pairs."""
    use = [exact_sum(cost[user, slot]) for cost in case.costs]
    if case.capacity is not None:
        offer, amount = case.offer[user, slot], case.use[user, slot]
        order = np.argsort(offer, kind="stable")
        ends = np.searchsorted(offer[order], np.arange(len(case.capacity) + 1))
        use += [exact_sum(amount[order[a:b]]) for a, b in itertools.pairwise(ends)]
    if case.segment_idx is not None and case.floors is not None:
        segment = case.segment_idx[np.unique(user)]
        served = np.bincount(segment[segment >= 0], minlength=case.n_floors)
        use += [Fraction(int(count)) for count in served]
    return use


def broken_rows(case: Case, user: np.ndarray, slot: np.ndarray) -> list[str]:
    """Names of the rows that chosen pairs break, in exact arithmetic."""
    use, n_upper = exact_use(case, user, slot), len(case.limits) - case.n_floors
    found = []
    for row, (name, limit) in enumerate(zip(case.row_names, case.limits.tolist(), strict=True)):
        if math.isfinite(limit) and (
            use[row] > Fraction(limit) if row < n_upper else use[row] < Fraction(limit)
        ):
            found.append(name)
    return found


def dual_value(case: Case, prices: np.ndarray) -> float:
    """Dual function at prices in float64: limits . prices + best of each user."""
    n_budgets, n_upper = len(case.budgets), len(case.limits) - case.n_floors
    sign = np.where(np.arange(len(prices)) < n_upper, 1.0, -1.0)
    priced = prices > 0
    fixed = (sign * prices)[priced] * case.limits[priced]
    return math.fsum([*fixed.tolist(), *_best(case, prices, n_budgets, n_upper).tolist()])


def scores_of(case: Case, prices: np.ndarray) -> np.ndarray:
    """`(n, m)` value net of priced use; -inf where not eligible."""
    score = case.value.astype(np.float64)
    for price, cost in zip(prices, case.costs, strict=False):
        score -= price * cost
    if case.capacity is not None:
        score -= prices[len(case.budgets) :][case.offer] * case.use
    return score


def _best(case: Case, prices: np.ndarray, n_budgets: int, n_upper: int) -> np.ndarray:
    n, m = case.value.shape
    score, users = scores_of(case, prices), np.arange(n)
    reward = np.zeros(n)
    if case.segment_idx is not None and case.n_floors:
        reward = np.append(prices[n_upper:], 0.0)[case.segment_idx]  # -1: no segment
    for members, most in case.groups or ():
        if most == 0:
            score[np.isin(case.offer, list(members))] = -np.inf
    top = score.max(axis=1, initial=-np.inf)
    if case.max_offers == 1:
        return np.maximum(0.0, top + reward)
    # Greedy in falling order of score is optimal on nested or disjoint sets.
    groups = [(np.isin(case.offer, list(members)), most) for members, most in case.groups or ()]
    counts = np.zeros((len(groups) + 1, n), dtype=int)
    total = np.zeros(n)
    order = np.argsort(-score, axis=1, kind="stable")
    for rank in range(m):
        slot = order[:, rank]
        inside = np.array([np.ones(n, bool), *(g[users, slot] for g, _ in groups)])
        most = np.array([case.max_offers, *(most for _, most in groups)])[:, None]
        takes = (score[users, slot] > 0) & ~(inside & (counts >= most)).any(axis=0)
        total += np.where(takes, score[users, slot], 0.0)
        counts += inside & takes
    return np.where(counts[0] > 0, total + reward, np.maximum(0.0, top + reward))
