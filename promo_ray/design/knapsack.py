"""Allocation of one menu to whole users under its budgets, for results and judgement."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.allocation import AllocationProblem, solve

_N_HALVINGS = 80  # a float64 price is exact long before


class MenuAllocation(NamedTuple):
    """Who gets which offer of a menu.

    Attributes:
        slot: `(n,)` int64 place in the menu, -1 = no offer.
        value: value over all users.
        cost: `(K,)` use of each budget over all users, <= the budget.
        price: `(K,)` value per unit of it at the edge; 0 = budget left over.
        bound: no allocation is worth more.
    """

    slot: NDArray[np.int64]
    value: float
    cost: NDArray[np.float64]
    price: NDArray[np.float64]
    bound: float


def allocate_menu(
    value: NDArray[np.float64], cost: NDArray[np.float64], budget: ArrayLike | None
) -> MenuAllocation:
    """Best allocation up to the users at the edge of the budgets, one of them if there is one.

    Args:
        value: `(n, m)` value of each offer of the menu; -inf = not eligible.
        cost: `(n, m)` use of the budget, `(K, n, m)` of several, >= 0.
        budget: over all users, one or `(K,)`, >= 0; None = unlimited.
    """
    use = cost if cost.ndim == 3 else cost[None]
    limit = np.atleast_1d(np.asarray([] if budget is None else budget, dtype=np.float64))
    slot, value_of, _ = _at_price(value, np.zeros_like(value), 0.0)
    used = _used(slot, use[: len(limit)])
    if (used <= limit).all():
        total = float(value_of.sum())
        return MenuAllocation(slot, total, used, np.zeros(len(limit)), total)
    return _one(value, use[0], float(limit[0])) if len(limit) == 1 else _several(value, use, limit)


def _used(slot: NDArray[np.int64], use: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(K,)` use of each budget by all users."""
    taken = use[:, np.arange(len(slot)), slot] if use.shape[2] else np.zeros(use.shape[:2])
    total: NDArray[np.float64] = np.where(slot >= 0, taken, 0.0).sum(axis=1)
    return total


def _several(value: NDArray[Any], use: NDArray[Any], limit: NDArray[np.float64]) -> MenuAllocation:
    found = solve(AllocationProblem(value=value, costs=use, budgets=limit))
    slot = found.choice.astype(np.int64)
    taken = np.flatnonzero(slot >= 0)
    worth = float(value[taken, slot[taken]].sum())
    return MenuAllocation(slot, worth, _used(slot, use), found.prices[: len(limit)], found.bound)


def _one(value: NDArray[np.float64], cost: NDArray[np.float64], budget: float) -> MenuAllocation:
    """Best allocation up to one user at the edge of the budget.

    Source: Sinha and Zoltners 1979, multiple-choice knapsack by its linear relaxation: bisect the
    price of the budget, then fill what is left by value per cost.
    """
    pays = (value > 0) & (cost > 0)
    low, high = 0.0, float((value[pays] / cost[pays]).max()) * (1 + 1e-9)
    for _ in range(_N_HALVINGS):
        middle = (low + high) / 2
        if _at_price(value, cost, middle)[2].sum() <= budget:
            high = middle
        else:
            low = middle
    fit_slot, fit_value, fit_cost = _at_price(value, cost, high)
    over_slot, over_value, over_cost = _at_price(value, cost, low)
    bound = min(
        float(fit_value.sum() + high * (budget - fit_cost.sum())),
        float(over_value.sum() + low * (budget - over_cost.sum())),
    )
    # users on the edge, the best use of the rest of the budget first
    more_value, more_cost = over_value - fit_value, over_cost - fit_cost
    edge = np.flatnonzero((more_cost > 0) & (more_value > 0))
    edge = edge[np.argsort(-more_value[edge] / more_cost[edge], kind="stable")]
    left = budget - fit_cost.sum()
    moved = edge[np.cumsum(more_cost[edge]) <= left * (1 - 1e-12)]
    fit_slot[moved], fit_value[moved] = over_slot[moved], over_value[moved]
    fit_cost[moved] = over_cost[moved]
    used = np.array([fit_cost.sum()])
    return MenuAllocation(fit_slot, float(fit_value.sum()), used, np.array([high]), bound)


def _at_price(
    value: NDArray[np.float64], cost: NDArray[np.float64], price: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Slot, value and cost of each user who takes the best offer at a price, or none."""
    if value.shape[1] == 0:
        none = np.zeros(len(value))
        return np.full(len(value), -1, dtype=np.int64), none, none.copy()
    net = value - price * cost
    slot = net.argmax(axis=1)
    rows = np.arange(len(value))
    is_taken = net[rows, slot] > 0
    return (
        np.where(is_taken, slot, -1),
        np.where(is_taken, value[rows, slot], 0.0),
        np.where(is_taken, cost[rows, slot], 0.0),
    )
