"""What couples users: friends who talk, a stock and a budget of discounts that all of them share.

Friends only need to know who is contacted, so shards still run apart. Stock and budget are counted
every night: shards advance day by day, their states travel, and no effect of an offer on one user
is defined without saying what the others got.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.data.market.checkout import Lines, sums
from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.day import Given, given_of, step
from promo_ray.data.market.households import Households, Population
from promo_ray.data.market.replay import Books, Result, Settled, Shard, join, settle
from promo_ray.data.market.supply import supply_of
from promo_ray.data.market.world import State, World
from promo_ray.execution import Resident
from promo_ray.seeding import keys_of, uniforms

Ints = NDArray[np.int64]
_NO_LIMIT = 2**62


def friends_contacted(
    config: MarketConfig, user_ids: Sequence[str], arm: Ints
) -> NDArray[np.float32]:
    """Share of each user's friends who are contacted; friends are drawn among `user_ids`.

    Args:
        config: settings; without referrals nobody has friends.
        user_ids: all users of the market.
        arm: `(n,)` their offers.

    Returns:
        `(n,)` float32 in [0, 1].
    """
    n = len(user_ids)
    if config.referral_strength == 0.0:
        return np.zeros(n, np.float32)
    u = uniforms(config.seed, "market.friends", keys_of(user_ids), config.n_friends)
    friend = np.floor(u * n).astype(np.int64)
    return np.asarray((arm[friend] > 0).mean(axis=1), dtype=np.float32)


class Left(NamedTuple):
    """What users share.

    Attributes:
        units: `(n_items,)` int64 units of each item.
        cents: discounts of all offers, in cents.
    """

    units: Ints
    cents: int

    def less(self, taken: Left) -> Left:
        """What is left after a day."""
        return Left(self.units - taken.units, self.cents - taken.cents)


def is_shared(config: MarketConfig) -> bool:
    """Whether users share a limited stock or budget."""
    return config.stock_tightness > 0.0 or config.discount_budget > 0.0


def shared_by(config: MarketConfig, n_users: int) -> Left:
    """What `n_users` share; of what is not limited, more than they could take.

    The stock is the usual demand of the horizon over the tightness.
    """
    units, cents = np.full(config.n_items, _NO_LIMIT), _NO_LIMIT
    if config.stock_tightness > 0.0:
        supply, size = supply_of(config), config.items_per_category
        visits = config.visits_per_week / 7.0 * np.exp(config.visit_spread**2 / 2.0)
        demand = supply.demand.repeat(size) * np.exp(supply.appeal) * (1.0 + config.extra_units)
        usual = visits * demand * n_users * config.horizon_days
        units = np.asarray(np.ceil(usual / config.stock_tightness), dtype=np.int64)
    if config.discount_budget > 0.0:
        cents = round(100.0 * config.discount_budget * n_users)
    return Left(units, cents)


def shared_day(
    world: World, homes: Households, given: Given, state: State, day: int, left: Left
) -> tuple[Lines, Left]:
    """Purchases of a day within what is left, and what they took; changes `state` as `step`."""
    if left.cents <= 0:
        state.is_redeemed[:] = True
    lines = step(world, homes, given, state, day, left.units > 0)
    units = sums(lines.item, lines.units, world.config.n_items)
    return lines, Left(units, int(lines.off.sum() + lines.order_off.sum()))


class _Open(NamedTuple):
    """A scenario in the middle of its days."""

    settled: Settled
    given: Given
    state: State
    books: Books


def _begin(
    shard: Shard,
    world: World,
    scenario: int,
    windows: Sequence[int],
    population: Population | None,
) -> _Open:
    settled = settle(world, shard.user_ids, population)
    given = given_of(world, settled.homes, shard.arms[:, scenario], shard.friends[:, scenario])
    return _Open(settled, given, settled.state, Books(world.config, settled.homes, windows))


def _advance(_shard: Shard, world: World, day: int, left: Left, at: _Open) -> tuple[_Open, Left]:
    state, books = at.state.copy(), at.books.copy()
    lines, taken = shared_day(world, at.settled.homes, at.given, state, day, left)
    books.enter(world, lines, day)
    return _Open(at.settled, at.given, state, books), taken


def replay_shared(
    resident: Resident[Shard],
    world: World,
    scenario: int,
    windows: Sequence[int],
    population: Population | None,
    n_users: int,
) -> Result:
    """One scenario with a stock and a budget shared by all users of all shards.

    Memory grows with the users, as every state is kept from day to day.
    """
    left = shared_by(world.config, n_users)
    states = resident.map(_begin, world, scenario, windows, population)
    for day in range(world.config.horizon_days):
        moved = resident.map(_advance, world, day, left, each=states)
        states = [at for at, _ in moved]
        for _, taken in moved:
            left = left.less(taken)
    return join([at.books.close(world, at.given.arm) for at in states])
