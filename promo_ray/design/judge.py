"""Judgement of menus on users that the search never saw, paired with what else could be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.design.columns import Columns
from promo_ray.design.fitness import MenuFitness, padded
from promo_ray.design.knapsack import allocate_menu

_Z_95 = 1.959964  # two-sided 95 % of the normal distribution
_N_ROUNDS = 3  # of a race: a quarter of the users, a half, all


class Gain(NamedTuple):
    """Difference of means per user with its 95 % interval (normal, paired by user)."""

    mean: float
    low: float
    high: float


class Finalist(NamedTuple):
    """A menu in the race.

    Attributes:
        menu: its offers.
        value: per user, less fixed costs, on the last users it ran on.
        behind: what the leader of that round is worth more; 0 for the leader.
        n_users: users it ran on; fewer than all = it was out of the race by then.
    """

    menu: tuple[int, ...]
    value: float
    behind: Gain
    n_users: int


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
        single_offer: the best single offer on the search sample; None = the rules allow none, and
            the menu is compared with no offers.
        single_share: share of users that the budget reaches when all get the single offer.
        single_value: its value when a random share of users gets it, less its fixed cost.
        gain_vs_none: gain of the menu over no offers.
        gain_vs_single: gain of the menu over the single offer to all.
        gain_vs_today: gain over the allocated menu of today; None = none was given.
    """

    n_users: int
    value: float
    cost: float
    price: float
    bound: float
    single_offer: int | None
    single_share: float
    single_value: float
    gain_vs_none: Gain
    gain_vs_single: Gain
    gain_vs_today: Gain | None = None


class _Single(NamedTuple):
    value: float
    share: float
    influence: NDArray[np.float64]


class _Allocated(NamedTuple):
    """A menu on a sample: value and bound per user, and each user's part of it."""

    value: float
    cost: float
    price: float
    bound: float
    influence: NDArray[np.float64]


def judge_menu(
    menu: Sequence[int],
    judge: Columns,
    *,
    budget_per_user: float | None,
    fixed_cost: ArrayLike = 0.0,
    single_offer: int | None,
    today: Sequence[int] | None = None,
) -> Judgement:
    """Judge a menu beside no offers, one single offer to all, and today's menu, same budget.

    The standard error takes the price of the budget as given: by the envelope theorem its own
    error is of second order. The users' terms are max(0, value - price * cost).

    Args:
        menu: offers; may be empty.
        judge: users that had no part in the choice of the menu.
        budget_per_user: budget over users; None = unlimited.
        fixed_cost: value lost per user for every offer in use; scalar or one per offer.
        single_offer: the single offer, chosen on other users; None = there is none.
        today: offers of today's menu.
    """
    fixed = np.broadcast_to(np.asarray(fixed_cost, float), judge.n_offers)
    chosen = _allocated(menu, judge, budget_per_user, fixed)
    single, single_value = _Single(0.0, 0.0, np.zeros(judge.n_users)), 0.0
    if single_offer is not None:
        value, cost = (a[0].astype(np.float64) for a in judge.take(np.array([single_offer])))
        single = single_to_all(value, cost, budget_per_user)
        single_value = single.value - float(fixed[single_offer])
    against = None
    if today is not None:
        old = _allocated(today, judge, budget_per_user, fixed)
        against = _gain(chosen.value - old.value, chosen.influence - old.influence)
    return Judgement(
        n_users=judge.n_users,
        value=chosen.value,
        cost=chosen.cost,
        price=chosen.price,
        bound=chosen.bound,
        single_offer=single_offer,
        single_share=single.share,
        single_value=single_value,
        gain_vs_none=_gain(chosen.value, chosen.influence),
        gain_vs_single=_gain(chosen.value - single_value, chosen.influence - single.influence),
        gain_vs_today=against,
    )


def _allocated(
    menu: Sequence[int],
    judge: Columns,
    budget_per_user: float | None,
    fixed: NDArray[np.float64],
) -> _Allocated:
    n, offers = judge.n_users, np.array(menu, dtype=np.int64)
    budget = None if budget_per_user is None else budget_per_user * n
    if not len(offers):
        return _Allocated(0.0, 0.0, 0.0, 0.0, np.zeros(n))
    value, cost = (a.T.astype(np.float64) for a in judge.take(offers))
    found = allocate_menu(value, cost, budget)
    net = _net(value, cost, found.price)
    lost = float(fixed[offers].sum())
    return _Allocated(
        found.value / n - lost, found.cost / n, found.price, found.bound / n - lost, net
    )


def race(
    menus: Sequence[Sequence[int]],
    columns: Columns,
    *,
    budget_per_user: float | None,
    fixed_cost: ArrayLike = 0.0,
) -> list[Finalist]:
    """Finalists on users that the search never saw, the winner first.

    On a quarter of the users, then half, then all, a menu leaves the race when the 95 % interval
    of what the leader is worth more, paired by user, lies above 0. Those that stay are ranked by
    value. The winner's value is that of the best of several and flatters it: judge it on others.

    Args:
        menus: offers of each finalist, at least one menu; equal ones run once.
        columns: users, in an order that says nothing about them.
        budget_per_user: see `judge_menu`.
        fixed_cost: see `judge_menu`.
    """
    running = list(dict.fromkeys(tuple(menu) for menu in menus))
    fixed = np.broadcast_to(np.asarray(fixed_cost, float), columns.n_offers)
    out: list[Finalist] = []
    for turn in range(_N_ROUNDS):
        n = max(1, columns.n_users >> (_N_ROUNDS - 1 - turn))
        sample = columns.users(slice(0, n))
        fitness = MenuFitness(sample, budget_per_user=budget_per_user, fixed_cost=fixed_cost)
        scores = fitness.scores(padded(running))
        values = scores.value.numpy()
        nets = [
            _net_of(menu, sample, float(price)) - fixed[list(menu)].sum()
            for menu, price in zip(running, scores.price, strict=True)
        ]
        leader = int(values.argmax())
        found = [
            Finalist(menu, float(v), _gain(float(values[leader] - v), nets[leader] - net), n)
            for menu, v, net in zip(running, values, nets, strict=True)
        ]
        found.sort(key=lambda f: (-f.value, f.menu))
        if turn == _N_ROUNDS - 1:
            return [*found, *reversed(out)]
        out += [f for f in reversed(found) if f.behind.low > 0]
        running = [f.menu for f in found if not f.behind.low > 0]
    raise AssertionError  # the last round returns


def _net_of(menu: Sequence[int], columns: Columns, price: float) -> NDArray[np.float64]:
    if not len(menu):
        return np.zeros(columns.n_users)
    value, cost = columns.take(np.array(menu, dtype=np.int64))
    return _net(value.T.astype(np.float64), cost.T.astype(np.float64), price)


def _net(value: NDArray[Any], cost: NDArray[Any], price: float) -> NDArray[np.float64]:
    """`(n,)` what each user is worth at a price of the budget."""
    found: NDArray[np.float64] = (value - price * cost).max(axis=1, initial=0.0)
    return found


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


def best_single(
    search: Columns,
    budget_per_user: float | None,
    fixed_cost: ArrayLike = 0.0,
    offers: NDArray[np.int64] | None = None,
) -> int | None:
    """The offer that is worth most when given to all; ties to the first, None = no offers.

    Args:
        search: users of the search.
        budget_per_user: see `judge_menu`.
        fixed_cost: see `judge_menu`.
        offers: those to choose from; all if None.
    """
    pool = np.arange(search.n_offers) if offers is None else offers
    if not len(pool):
        return None
    fixed = np.broadcast_to(np.asarray(fixed_cost, float), search.n_offers)[pool]
    value, cost = (a.astype(np.float64) for a in search.take(pool))
    columns = zip(value, cost, strict=True)
    worth = [single_to_all(v, c, budget_per_user).value for v, c in columns]
    return int(pool[np.argmax(np.array(worth) - fixed)])


def _gain(mean: float, influence: NDArray[np.float64]) -> Gain:
    half = _Z_95 * float(influence.std(ddof=1)) / len(influence) ** 0.5 if len(influence) > 1 else 0
    return Gain(mean, mean - half, mean + half)
