"""Replays of the market: users in chunks, days in order, what they spent in exact cents.

A shard holds users, their arms and their friends' share; its results are whole numbers, so any
sharding gives the same bytes. One replay settles the history once and then runs every scenario
from a copy of the same state with the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.data.market.checkout import Lines, sums
from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.day import first_state, given_of, step
from promo_ray.data.market.households import Households, Population, households_of
from promo_ray.data.market.world import State, World

Ints = NDArray[np.int64]
Singles = NDArray[np.float32]

CHUNK = 8192  # users at a time; bounds memory, changes nothing else


class Accounts(NamedTuple):
    """What users did in windows after the start of their wave; all `(n, n_windows)` int64.

    Money is in cents, after the offer's discount; margin is before contact cost.
    """

    margin: Ints
    revenue: Ints
    discount: Ints
    orders: Ints
    visits: Ints


class Totals(NamedTuple):
    """Sums over users by day of the campaign; merge by `merge_totals`.

    Attributes:
        units: `(horizon_days, n_items)` int64 units sold.
        margin: `(horizon_days,)` int64 cents, returns taken off, contact cost not.
        revenue: `(horizon_days,)` int64 cents.
        discount: `(horizon_days,)` int64 cents given away by offers.
        orders: `(horizon_days,)` int64.
        contacts: `(horizon_days, n_arms)` int64 contacts made.
    """

    units: Ints
    margin: Ints
    revenue: Ints
    discount: Ints
    orders: Ints
    contacts: Ints


class Shard(NamedTuple):
    """Users of a shard and how each scenario meets them.

    Attributes:
        user_ids: ids.
        arms: `(n, n_scenarios)` arm of each user in each scenario.
        friends: `(n, n_scenarios)` share of friends contacted.
    """

    user_ids: Sequence[str]
    arms: Ints
    friends: Singles


class Result(NamedTuple):
    """One scenario over the users of a shard.

    Attributes:
        actual: accounts of all orders placed in the window, with all their returns.
        observed: accounts of what the books show at the end of the window.
        totals: sums by day.
    """

    actual: Accounts
    observed: Accounts
    totals: Totals


def merge_totals(a: Totals, b: Totals) -> Totals:
    """Totals of two sets of users."""
    return Totals(*(x + y for x, y in zip(a, b, strict=True)))


def _join_accounts(parts: Sequence[Accounts]) -> Accounts:
    return Accounts(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def join(parts: Sequence[Result]) -> Result:
    """Result of users one after another."""
    totals = parts[0].totals
    for part in parts[1:]:
        totals = merge_totals(totals, part.totals)
    return Result(
        _join_accounts([p.actual for p in parts]),
        _join_accounts([p.observed for p in parts]),
        totals,
    )


class Books:
    """Accounts that grow day by day."""

    def __init__(self, config: MarketConfig, homes: Households, windows: Sequence[int]) -> None:
        n, days = len(homes.keys), config.horizon_days
        self._start, self._windows = 7 * homes.wave, windows
        shape = (len(Accounts._fields), n, len(windows))
        self._actual, self._observed = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._units = np.zeros((days, config.n_items), np.int64)
        self._by_day = np.zeros((4, days), np.int64)

    def copy(self) -> Books:
        """Books with arrays of their own."""
        return deepcopy(self)

    def enter(self, world: World, lines: Lines, day: int) -> None:
        """Book the purchases of a day >= 0."""
        user, order, n = lines.user, lines.order, len(lines.user)
        gross = lines.units * lines.price - lines.off
        margin = gross - lines.units * world.supply.cost_cents[lines.item]
        is_order = sums(order, np.ones_like(order), n) > 0
        off = sums(order, lines.off, n) + lines.order_off
        full = np.stack([sums(order, v, n) for v in (margin, gross)]) - lines.order_off
        full = np.concatenate([full, [off, is_order, np.ones(n, np.int64)]])
        kept = self._less_returns(full, lines, margin, gross, lines.back_day >= 0)
        self._units[day] += sums(lines.item, lines.units, self._units.shape[1])
        self._by_day[:, day] += kept[:4].sum(axis=1)
        age = day - self._start[user]
        for w, window in enumerate(self._windows):
            is_in = (age >= 0) & (age < window)
            self._actual[:, user, w] += kept * is_in
            end = self._start[user] + window
            is_back = (lines.back_day >= 0) & (lines.back_day < end[order])
            seen = self._less_returns(full, lines, margin, gross, is_back)
            seen = seen * (day + lines.lag < end)
            seen[-1] = 1  # visits are seen at once
            self._observed[:, user, w] += seen * is_in

    @staticmethod
    def _less_returns(
        full: Ints, lines: Lines, margin: Ints, gross: Ints, is_back: NDArray[np.bool_]
    ) -> Ints:
        """Sums of orders without the lines that came back; the order's discount stays given."""
        n = len(lines.user)
        less = np.stack([sums(lines.order, v * is_back, n) for v in (margin, gross, lines.off)])
        kept = full.copy()
        kept[:3] -= less
        return kept

    def close(self, world: World, arm: Ints) -> Result:
        """Result of the scenario."""
        contacts = np.zeros((self._by_day.shape[1], world.menu.n_arms), np.int64)
        for days in world.contact_days:
            day = self._start + days
            is_in = day < len(contacts)
            np.add.at(contacts, (day[is_in], arm[is_in]), 1)
        margin, revenue, discount, orders = self._by_day
        totals = Totals(self._units, margin, revenue, discount, orders, contacts)
        return Result(Accounts(*self._actual), Accounts(*self._observed), totals)


class Settled(NamedTuple):
    """Users after the history.

    Attributes:
        homes: their traits.
        state: their state on the first day of the campaign.
        history: `(3, n)` int64 orders, revenue in cents, and units before the campaign.
    """

    homes: Households
    state: State
    history: Ints


def settle(
    world: World,
    user_ids: Sequence[str],
    population: Population | None,
    keep: Callable[[Lines, int], None] | None = None,
) -> Settled:
    """Run the days before the campaign; `keep` is told the purchases of each."""
    homes = households_of(world.config, user_ids, population)
    state, n = first_state(world.config, homes), len(homes.keys)
    given = given_of(world, homes, np.zeros(n, np.int64), np.zeros(n, np.float32))
    history = np.zeros((3, n), np.int64)
    for day in range(-world.config.history_days, 0):
        lines = step(world, homes, given, state, day)
        user = lines.user[lines.order]
        history[0, np.unique(user)] += 1
        history[1] += sums(user, lines.units * lines.price, n)
        history[2] += sums(user, lines.units, n)
        if keep is not None:
            keep(lines, day)
    return Settled(homes, state, history)


def chunks(user_ids: Sequence[str]) -> list[Sequence[str]]:
    """Users in chunks of bounded memory."""
    return [user_ids[low : low + CHUNK] for low in range(0, len(user_ids), CHUNK)]


def replay_shard(
    shard: Shard,
    worlds: Sequence[World],
    windows: Sequence[int],
    population: Population | None = None,
) -> list[Result]:
    """Every scenario over the users of a shard.

    Args:
        shard: users and their arms.
        worlds: one per scenario; they differ in offers, shop promotions or contact days only.
        windows: lengths of outcome windows in days.
        population: real users to draw from.
    """
    config = worlds[0].config
    parts: list[list[Result]] = [[] for _ in worlds]
    for low in range(0, len(shard.user_ids), CHUNK):
        rows = slice(low, low + CHUNK)
        settled = settle(worlds[0], shard.user_ids[rows], population)
        for s, world in enumerate(worlds):
            arm, state = shard.arms[rows, s], settled.state.copy()
            given = given_of(world, settled.homes, arm, shard.friends[rows, s])
            books = Books(config, settled.homes, windows)
            for day in range(config.horizon_days):
                books.enter(world, step(world, settled.homes, given, state, day), day)
            parts[s].append(books.close(world, arm))
    return [join(p) for p in parts]
