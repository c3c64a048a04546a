"""Judgement of menus on users that the search never saw, paired with what else could be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from promo_ray.design.budgets import BudgetRows, rows_of
from promo_ray.design.columns import Columns
from promo_ray.design.fitness import MenuFitness, in_fractions, padded
from promo_ray.design.knapsack import allocate_menu

_N_ROUNDS = 3  # of a race: a quarter of the users, a half, all


@dataclass(frozen=True)
class BudgetUse:
    """What a menu uses of a budget, per user.

    Attributes:
        name: of the budget.
        measure: `money` or `contacts`.
        limit: the budget.
        spend: what is used, <= limit.
        price: value of one more unit of it; 0 = budget left.
    """

    name: str
    measure: str
    limit: float
    spend: float
    price: float


class Gain(NamedTuple):
    """Difference of means per user with its 95 % interval, paired by user, see `_gain`."""

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
        cost: money spent, whatever the budgets measure.
        bound: no allocation of the menu is worth more.
        single_offer: the best single offer on the search sample; None = the rules allow none, and
            the menu is compared with no offers.
        single_share: share of users that the budgets reach when all get the single offer.
        single_value: its value when a random share of users gets it, less its fixed cost.
        gain_vs_none: gain of the menu over no offers.
        gain_vs_single: gain of the menu over the single offer to all.
        gain_vs_today: gain over the allocated menu of today; None = none was given.
        budgets: what is used of each.
    """

    n_users: int
    value: float
    cost: float
    bound: float
    single_offer: int | None
    single_share: float
    single_value: float
    gain_vs_none: Gain
    gain_vs_single: Gain
    gain_vs_today: Gain | None = None
    budgets: tuple[BudgetUse, ...] = ()


class _Single(NamedTuple):
    value: float
    share: float
    influence: NDArray[np.float64]


class _Allocated(NamedTuple):
    """A menu on a sample: value and bound per user, and each user's part of it."""

    value: float
    cost: float
    bound: float
    budgets: tuple[BudgetUse, ...]
    influence: NDArray[np.float64]


def judge_menu(
    menu: Sequence[int],
    judge: Columns,
    *,
    budget_per_user: float | BudgetRows | None,
    fixed_cost: ArrayLike = 0.0,
    single_offer: int | None,
    today: Sequence[int] | None = None,
) -> Judgement:
    """Judge a menu beside no offers, one single offer to all, and today's menu, same budgets.

    The standard error takes the prices of the budgets as given: by the envelope theorem their own
    error is of second order. The users' terms are max(0, value - sum of price * use).

    Args:
        menu: offers; may be empty.
        judge: users that had no part in the choice of the menu.
        budget_per_user: see `MenuFitness`.
        fixed_cost: value lost per user for every offer in use; scalar or one per offer.
        single_offer: the single offer, chosen on other users; None = there is none.
        today: offers of today's menu.
    """
    fixed = np.broadcast_to(np.asarray(fixed_cost, float), judge.n_offers)
    rows = rows_of(budget_per_user, judge.n_offers)
    chosen = _allocated(menu, judge, rows, fixed)
    single, single_value = _Single(0.0, 0.0, np.zeros(judge.n_users)), 0.0
    if single_offer is not None:
        only = np.array([single_offer])
        value, cost = (a.astype(np.float64) for a in judge.take(only))
        single = single_to_all(value[0], rows.use(only, cost)[:, 0], rows.limit)
        single_value = single.value - float(fixed[single_offer])
    against = None
    if today is not None:
        old = _allocated(today, judge, rows, fixed)
        against = _gain(chosen.value - old.value, chosen.influence - old.influence)
    return Judgement(
        n_users=judge.n_users,
        value=chosen.value,
        cost=chosen.cost,
        bound=chosen.bound,
        single_offer=single_offer,
        single_share=single.share,
        single_value=single_value,
        gain_vs_none=_gain(chosen.value, chosen.influence),
        gain_vs_single=_gain(chosen.value - single_value, chosen.influence - single.influence),
        gain_vs_today=against,
        budgets=chosen.budgets,
    )


def _allocated(
    menu: Sequence[int],
    judge: Columns,
    rows: BudgetRows,
    fixed: NDArray[np.float64],
) -> _Allocated:
    n, offers = judge.n_users, np.array(menu, dtype=np.int64)
    value, cost = np.zeros((n, 0)), np.zeros((n, 0))
    if len(offers):
        value, cost = (a.T.astype(np.float64) for a in judge.take(offers))
    use = _use_of(rows, offers, cost)
    if len(offers) and (rows.limit * n < use.max(axis=(1, 2), initial=0.0)).any():
        # less than one use here is more in the campaign; in whole users it would count as nothing
        scores, money = in_fractions(menu, judge, rows, fixed)
        price = scores.price[0].numpy()
        return _Allocated(
            float(scores.value[0]), money, float(scores.bound[0]),
            _uses(rows, scores.spend[0].numpy(), price), _net(value, use, price),
        )  # fmt: skip
    found = allocate_menu(value, use, rows.limit * n)
    taken = np.flatnonzero(found.slot >= 0)
    lost = float(fixed[offers].sum())
    return _Allocated(
        found.value / n - lost,
        float(cost[taken, found.slot[taken]].sum()) / n,
        found.bound / n - lost,
        _uses(rows, found.cost / n, found.price),
        _net(value, use, found.price),
    )


def _uses(
    rows: BudgetRows, spend: NDArray[np.float64], price: NDArray[np.float64]
) -> tuple[BudgetUse, ...]:
    return tuple(
        BudgetUse(name, "money" if is_money else "contacts", *map(float, numbers))
        for name, is_money, *numbers in zip(
            rows.names, rows.is_money, rows.limit, spend, price, strict=True
        )
    )


def _use_of(rows: BudgetRows, offers: NDArray[np.int64], cost: NDArray[Any]) -> NDArray[Any]:
    """`(K, n, m)` use of each budget at costs `(n, m)`."""
    return rows.use(offers, cost.T).transpose(0, 2, 1)


def race(
    menus: Sequence[Sequence[int]],
    columns: Columns,
    *,
    budget_per_user: float | BudgetRows | None,
    fixed_cost: ArrayLike = 0.0,
) -> list[Finalist]:
    """Finalists on users that the search never saw, the winner first.

    On a quarter of the users, then half, then all, a menu leaves the race when the 95 % interval
    of what the leader is worth more, paired by user, lies above 0. Those that stay are ranked by
    value. The winner's value is that of the best of several and flatters it: judge it on others.

    Args:
        menus: offers of each finalist, at least one menu; equal ones run once.
        columns: users, in an order that says nothing about them.
        budget_per_user: see `MenuFitness`.
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
            _net_of(menu, sample, fitness.budgets, price) - fixed[list(menu)].sum()
            for menu, price in zip(running, scores.price.numpy(), strict=True)
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


def _net_of(
    menu: Sequence[int], columns: Columns, rows: BudgetRows, price: NDArray[np.float64]
) -> NDArray[np.float64]:
    if not len(menu):
        return np.zeros(columns.n_users)
    offers = np.array(menu, dtype=np.int64)
    value, cost = (a.T.astype(np.float64) for a in columns.take(offers))
    return _net(value, _use_of(rows, offers, cost), price)


def _net(
    value: NDArray[np.float64], use: NDArray[np.float64], price: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`(n,)` what each user is worth at prices of the budgets."""
    paid: Any = sum(p * used for p, used in zip(price, use, strict=True))
    found: NDArray[np.float64] = (value - paid).max(axis=1, initial=0.0)
    return found


def single_to_all(
    value: NDArray[np.float64], use: NDArray[np.float64], limit: NDArray[np.float64]
) -> _Single:
    """Value per user when all eligible users get one offer, or as many as the budgets allow.

    Who gets it is drawn at random, so value and use are those of the mean user.

    Args:
        value: `(n,)` of each user; -inf = not eligible.
        use: `(K, n)` of each budget.
        limit: `(K,)` per user.
    """
    is_eligible = np.isfinite(value)
    value, use = np.where(is_eligible, value, 0.0), np.where(is_eligible, use, 0.0)
    mean_value, mean_use = float(value.mean()), use.mean(axis=1)
    if (mean_use <= limit).all():
        return _Single(mean_value, 1.0, value)
    shares = np.divide(limit, mean_use, out=np.full(len(limit), np.inf), where=mean_use > limit)
    tight = int(shares.argmin())
    share = float(shares[tight])
    # delta method on the ratio mean value / mean use
    influence = share * (value - mean_value / mean_use[tight] * use[tight])
    return _Single(share * mean_value, share, influence)


def best_single(
    search: Columns,
    budget_per_user: float | BudgetRows | None,
    fixed_cost: ArrayLike = 0.0,
    offers: NDArray[np.int64] | None = None,
) -> int | None:
    """The offer that is worth most when given to all; ties to the first, None = no offers.

    Args:
        search: users of the search.
        budget_per_user: see `MenuFitness`.
        fixed_cost: see `judge_menu`.
        offers: those to choose from; all if None.
    """
    pool = np.arange(search.n_offers) if offers is None else offers
    if not len(pool):
        return None
    fixed = np.broadcast_to(np.asarray(fixed_cost, float), search.n_offers)[pool]
    value, cost = (a.astype(np.float64) for a in search.take(pool))
    rows = rows_of(budget_per_user, search.n_offers)
    use = rows.use(pool, cost)
    worth = [single_to_all(v, use[:, i], rows.limit).value for i, v in enumerate(value)]
    return int(pool[np.argmax(np.array(worth) - fixed)])


def _gain(mean: float, influence: NDArray[np.float64]) -> Gain:
    """Mean with its interval from the users' terms, whose skewness is taken out.

    Values of users have a long right tail, and the plain interval misses on that side: a sample
    without the few best users has both a low mean and a low spread.
    Source: Hall 1992, JRSS B 54, transformation of the t statistic.
    """
    n, centered = len(influence), influence - influence.mean()
    spread = float(influence.std(ddof=1)) if n > 1 else 0.0
    if spread == 0:
        return Gain(mean, mean, mean)
    error = spread / n**0.5
    tilt = float((centered**3).mean()) / spread**3 / n**0.5
    z = float(stdtrit(n - 1, 0.975))
    high, low = (_untilted(x, tilt) for x in (-z, z))
    return Gain(mean, mean - error * low, mean - error * high)


def _untilted(x: float, tilt: float) -> float:
    """Inverse of t + tilt t^2 / 3 + tilt^2 t^3 / 27 + tilt / 6, which is about normal."""
    x -= tilt / 6
    if abs(tilt) < 1e-4:
        return x - tilt * x * x / 3
    return float(3 / tilt * (np.cbrt(1 + tilt * x) - 1))
