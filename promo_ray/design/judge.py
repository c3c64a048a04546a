"""Judgement of a menu on users that the search never saw, paired with what else could be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.design.fitness import checked_sample
from promo_ray.design.knapsack import allocate_menu

_Z_95 = 1.959964  # two-sided 95 % of the normal distribution


class Sample(NamedTuple):
    """Users by candidate offers.

    Attributes:
        value: `(n, g)` expected value net of all costs of the offer; -inf = not eligible.
        cost: `(n, g)` expected use of the budget, >= 0.
    """

    value: NDArray[np.float32]
    cost: NDArray[np.float32]


class Gain(NamedTuple):
    """Difference of means per user with its 95 % interval (normal, paired by user)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Judgement:
    """What a menu is worth per user on a held-out sample; values are model estimates.

    The interval covers the draw of users. It does not cover errors that the estimates of value
    share; off-policy evaluation on logged outcomes does.

    Attributes:
        n_users: users of the sample.
        value: value of the allocated menu, less fixed costs. No offers at all are worth 0.
        cost: budget used.
        price: value per unit of cost at the edge of the budget.
        bound: no allocation of the menu is worth more.
        single_offer: grid row of the best single offer on the search sample.
        single_share: share of users that the budget reaches when all get the single offer.
        single_value: its value when a random share of users gets it, less its fixed cost.
        gain_vs_none: gain of the menu over no offers.
        gain_vs_single: gain of the menu over the single offer to all.
    """

    n_users: int
    value: float
    cost: float
    price: float
    bound: float
    single_offer: int
    single_share: float
    single_value: float
    gain_vs_none: Gain
    gain_vs_single: Gain


class _Single(NamedTuple):
    value: float
    share: float
    influence: NDArray[np.float64]


def judge_menu(
    menu: Sequence[int],
    judge: Sample,
    *,
    budget_per_user: float | None,
    fixed_cost: ArrayLike = 0.0,
    single_offer: int,
) -> Judgement:
    """Judge a menu beside no offers and one single offer to all, under the same budget.

    The standard error takes the price of the budget as given: by the envelope theorem its own
    error is of second order. The users' terms are max(0, value - price * cost).

    Args:
        menu: grid rows; may be empty.
        judge: users that had no part in the choice of the menu.
        budget_per_user: budget over users; None = unlimited.
        fixed_cost: value lost per user for every offer in use; scalar or `(g,)`.
        single_offer: grid row of the single offer, chosen on other users.
    """
    value, cost = (a.astype(np.float64) for a in checked_sample(judge.value, judge.cost))
    n = len(value)
    fixed = np.broadcast_to(np.asarray(fixed_cost, float), value.shape[1])
    own_value, own_cost = value[:, list(menu)], cost[:, list(menu)]
    budget = None if budget_per_user is None else budget_per_user * n
    chosen = allocate_menu(own_value, own_cost, budget)
    menu_fixed = float(fixed[list(menu)].sum())
    net = (own_value - chosen.price * own_cost).max(axis=1, initial=0.0)
    single = single_to_all(value[:, single_offer], cost[:, single_offer], budget_per_user)
    single_value = single.value - float(fixed[single_offer])
    menu_value = chosen.value / n - menu_fixed
    return Judgement(
        n_users=n,
        value=menu_value,
        cost=chosen.cost / n,
        price=chosen.price,
        bound=chosen.bound / n - menu_fixed,
        single_offer=single_offer,
        single_share=single.share,
        single_value=single_value,
        gain_vs_none=_gain(menu_value, net),
        gain_vs_single=_gain(menu_value - single_value, net - single.influence),
    )


def single_to_all(
    value: NDArray[np.float64], cost: NDArray[np.float64], budget_per_user: float | None
) -> _Single:
    """Value per user when all eligible users get one offer, or as many as the budget allows.

    Who gets it is drawn at random, so value and cost are those of the mean user.
    """
    is_eligible = np.isfinite(value)
    value, cost = np.where(is_eligible, value, 0.0), np.where(is_eligible, cost, 0.0)
    mean_value, mean_cost = float(value.mean()), float(cost.mean())
    if budget_per_user is None or mean_cost <= budget_per_user:
        return _Single(mean_value, 1.0, value)
    share = budget_per_user / mean_cost
    # delta method on the ratio mean value / mean cost
    influence = share * (value - mean_value / mean_cost * cost)
    return _Single(share * mean_value, share, influence)


def best_single(search: Sample, budget_per_user: float | None, fixed_cost: ArrayLike = 0.0) -> int:
    """Grid row of the offer that is worth most when given to all; ties to the first."""
    value, cost = (a.astype(np.float64) for a in checked_sample(search.value, search.cost))
    columns = zip(value.T, cost.T, strict=True)
    worth = [single_to_all(v, c, budget_per_user).value for v, c in columns]
    return int(np.argmax(np.array(worth) - fixed_cost))


def _gain(mean: float, influence: NDArray[np.float64]) -> Gain:
    half = _Z_95 * float(influence.std(ddof=1)) / len(influence) ** 0.5 if len(influence) > 1 else 0
    return Gain(mean, mean - half, mean + half)
