"""What every answer and every refusal must satisfy, as a list of faults."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from allocation_cases import INF, Case
from allocation_oracles import (
    broken_rows,
    dual_value,
    exact_use,
    largest_scale,
    linear_optimum,
    whole_optimum,
)

from promo_ray.allocation import Allocation, solve
from promo_ray.errors import InfeasibleError

NEAR = 1e-9


def pairs_of(case: Case, choice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Users and slots of a choice, `(n,)` or `(n, q)`."""
    wide = choice if choice.ndim == 2 else choice[:, None]
    user, at = np.nonzero(wide >= 0)
    return user, wide[user, at]


def money_of(case: Case) -> float:
    """Scale of money: the sum of best absolute values, at least the smallest normal number."""
    able = np.where(np.isfinite(case.value), np.abs(case.value), 0.0)
    return max(float(able.max(axis=1, initial=0.0).sum(dtype=np.float64)), 1e-300)


def faults_of(case: Case, found: Allocation) -> list[str]:
    """Everything that is wrong with an answer apart from its quality."""
    faults = _choice_faults(case, found.choice)
    if faults:
        return faults
    user, slot = pairs_of(case, found.choice)
    faults += [f"{row} is broken" for row in broken_rows(case, user, slot)]
    value = math.fsum(case.value[user, slot].tolist())
    if abs(found.value - value) > 1e-12 * money_of(case):
        faults.append(f"value {found.value} is not that of the choice, {value}")
    faults += _slack_faults(case, found, user, slot)
    faults += _certificate_faults(case, found)
    return faults


def _choice_faults(case: Case, choice: np.ndarray) -> list[str]:
    n, m = case.value.shape
    shape = (n,) if case.max_offers == 1 else (n, case.max_offers)
    if choice.shape != shape or choice.dtype != np.int32:
        return [f"choice is {choice.shape} {choice.dtype}, not {shape} int32"]
    if choice.size and (choice.min() < -1 or choice.max() >= m):
        return [f"choice holds slots {choice.min()} to {choice.max()} of {m}"]
    user, slot = pairs_of(case, choice)
    faults = []
    if not np.isfinite(case.value[user, slot]).all():
        faults.append("a pair that is not eligible was chosen")
    if len(np.unique(user.astype(np.int64) * m + slot)) != len(user):
        faults.append("a user got one slot twice")
    if choice.ndim == 2 and (choice[:, :-1] < choice[:, 1:])[choice[:, :-1] == -1].any():
        faults.append("an empty place stands before a slot")
    offer = case.offer[user, slot]
    for members, most in case.groups or ():
        counts = np.bincount(user[np.isin(offer, list(members))], minlength=n)
        if counts.max(initial=0) > most:
            faults.append(f"a user got {counts.max()} offers of {list(members)}, limit {most}")
    return faults


def _slack_faults(case: Case, found: Allocation, user: np.ndarray, slot: np.ndarray) -> list[str]:
    limits, n_upper = case.limits, len(case.limits) - case.n_floors
    if found.slack.shape != limits.shape:
        return [f"slack has shape {found.slack.shape}, not {limits.shape}"]
    faults = [] if (found.slack >= 0).all() else [f"slack is negative: {found.slack.min()}"]
    for row, use in enumerate(exact_use(case, user, slot)):
        sign = 1 if row < n_upper else -1
        limit = limits[row]
        left = sign * (Fraction(limit) - use) if math.isfinite(limit) else sign * limit
        slack = found.slack[row]
        if slack != left and not abs(slack - float(left)) <= NEAR * max(1.0, float(use)):
            faults.append(f"slack of {case.row_names[row]} is {slack}, not {float(left)}")
    return faults


def _certificate_faults(case: Case, found: Allocation) -> list[str]:
    prices, money = found.prices, money_of(case)
    if prices.shape != case.limits.shape or prices.dtype != np.float64:
        return [f"prices are {prices.shape} {prices.dtype}, not {case.limits.shape} float64"]
    if not ((prices >= 0) & np.isfinite(prices)).all():
        return [f"prices are not all finite and >= 0: {prices}"]
    faults = []
    if (prices[~np.isfinite(case.limits)] > 0).any():
        faults.append("a row without limit has a price")
    dual = dual_value(case, prices)
    near = NEAR * max(abs(found.bound), 1e-3 * money)
    if not abs(dual - found.bound) <= near:
        faults.append(f"bound {found.bound!r} is not the dual value at prices, {dual!r}")
    if not found.value <= found.bound:
        faults.append(f"value {found.value} is above bound {found.bound}")
    if found.bound != 0:
        gap = (found.bound - found.value) / abs(found.bound)
        if not abs(found.gap - gap) <= 1e-12 + 1e-9 * gap:
            faults.append(f"gap {found.gap} is not {gap}")
    if not (found.n_passes >= 0 and found.n_split_users >= 0):
        faults.append("a count is negative")
    return faults


def refusal_faults(case: Case, error: InfeasibleError) -> list[str]:
    """The rows named exclude each other, and the scale is that of the linear program."""
    faults = []
    if not error.rows or set(error.rows) - set(case.row_names):
        return [f"rows named are {error.rows}, of {case.row_names}"]
    if not any(row.startswith("floor") for row in error.rows):
        faults.append(f"no floor among the rows {error.rows}, though nobody served keeps others")
    if error.exit_code != 3:
        faults.append(f"exit code is {error.exit_code}")
    copy = pickle.loads(pickle.dumps(error))
    if (copy.rows, copy.max_floor_scale) != (error.rows, error.max_floor_scale):
        faults.append("pickling loses fields")
    scale = largest_scale(case)
    if scale < 1 - 1e-9:
        if linear_optimum(only_rows(case, error.rows)) is not None:
            faults.append(f"the rows {error.rows} alone leave a fractional answer")
        faults += _scale_faults(case, error.max_floor_scale, scale)
    else:
        if whole_optimum(only_rows(case, error.rows)) is not None:
            faults.append(f"the rows {error.rows} alone leave an answer")
        faults += _scale_faults(case, error.max_floor_scale, 1 - 1e-12)
    return faults


def _scale_faults(case: Case, got: float, most: float) -> list[str]:
    """The largest scale of a whole answer, that of a fractional one, or one in between."""
    least, near = largest_scale(case, is_whole=True), 1e-6 * max(most, 1e-3)
    if least - near <= got <= most + near:
        return []
    return [f"max_floor_scale is {got}, not in [{least}, {most}]"]


def only_rows(case: Case, names: tuple[str, ...]) -> Case:
    """The case with all rows but these without limit."""
    kept = np.array([name in names for name in case.row_names], dtype=bool)
    n_budgets, n_upper = len(case.budgets), len(case.limits) - case.n_floors
    upper, floors = np.where(kept, case.limits, INF)[:n_upper], np.where(kept, case.limits, 0.0)
    capacity = None if case.capacity is None else upper[n_budgets:]
    return case.but(
        budgets=upper[:n_budgets],
        capacity=capacity,
        floors=None if case.floors is None else floors[n_upper:],
    )


@dataclass
class Verdict:
    """What examining one case found.

    Attributes:
        faults: what is wrong.
        short: (best - value) / money, 0 if the whole optimum was met; None after a refusal.
        found: the answer.
    """

    faults: list[str] = field(default_factory=list)
    short: float | None = None
    found: Allocation | None = None


def examine(case: Case, best: Any = None, **options: Any) -> Verdict:
    """Solve a small case and hold everything against the oracles.

    Args:
        case: a case that HiGHS solves at once.
        best: oracle of the best whole value; branch and bound if None.
        options: handed to `solve`.
    """
    whole = whole_optimum(case) if best is None else best(case)
    least, most = (whole, whole) if isinstance(whole, float) else whole or (None, None)
    is_clear = least is None or math.isfinite(least)
    try:
        found = solve(case.problem(), **options)
    except InfeasibleError as error:
        if most is not None:
            if not is_clear:  # only an answer that breaks a row by 1e-6 is known
                return Verdict()
            return Verdict([f"refused ({error.rows}), but {most} can be reached"])
        return Verdict(refusal_faults(case, error))
    faults = faults_of(case, found)
    if most is None:
        return Verdict([*faults, "answered, but there is no answer"], None, found)
    linear, money = linear_optimum(case), money_of(case)
    if linear is None or faults:
        return Verdict([*faults, "the oracles disagree"] if not faults else faults, None, found)
    scale = max(abs(linear), 1e-3 * money)
    if not found.bound >= linear - NEAR * scale:
        faults.append(f"bound {found.bound!r} is below the linear optimum {linear!r}")
    if not found.bound <= linear + 1e-7 * scale:
        faults.append(f"bound {found.bound!r} is above the linear optimum {linear!r}")
    if not found.converged:
        faults.append("not converged")
    if not found.value <= most + NEAR * money:
        faults.append(f"value {found.value!r} is above the best {most!r}")
    return Verdict(faults, max(0.0, (least - found.value) / scale), found)
