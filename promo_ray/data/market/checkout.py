"""The end of a visit: offers redeemed, baskets raised to thresholds, lags, returns, memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.supply import paid_cents
from promo_ray.data.market.world import State, World

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_TRIP = 3  # draws of a visit: size of the basket, raising it, lag
N_LINE = 3  # draws of a line besides those of its items: units, return, maker's coupon
MAX_UNITS = 12  # of a line
_MAKER_OFF = 0.25  # share of the price that a maker's coupon pays
_REACH = 0.35  # a basket is raised to a threshold by at most this share of it


class Basket(NamedTuple):
    """What visitors took from the shelf; lines by visitor and category.

    Attributes:
        user: `(n_visits,)` int64 row of each visitor.
        arm: `(n_visits,)` int64 offer that the visitor means to use; 0 = none.
        clips: `(n_visits,)` float32 chance that a line carries a maker's coupon.
        order: `(n_lines,)` int64 visit of each line.
        category: `(n_lines,)` int64.
        place: `(n_lines,)` int64 item within the category.
        units: `(n_lines,)` int64, >= 1.
    """

    user: Ints
    arm: Ints
    clips: NDArray[np.float32]
    order: Ints
    category: Ints
    place: Ints
    units: Ints


class Lines(NamedTuple):
    """Purchases of one day; lines by visitor and category.

    Attributes:
        order: `(n_lines,)` int64 visit of each line.
        item: `(n_lines,)` int64.
        units: `(n_lines,)` int64.
        price: `(n_lines,)` int64 shelf price in cents.
        off: `(n_lines,)` int64 cents that the offer took off the line.
        maker_off: `(n_lines,)` int64 cents that the maker pays for the household.
        back_day: `(n_lines,)` int64 day on which the line comes back; -1 = never.
        user: `(n_visits,)` int64 row of the user of each visit, also of visits without a line.
        order_off: `(n_visits,)` int64 cents that the offer took off the order as a whole.
        lag: `(n_visits,)` int64 days until the order is booked.
        is_redeemed: `(n_visits,)` bool the offer was used.
    """

    order: Ints
    item: Ints
    units: Ints
    price: Ints
    off: Ints
    maker_off: Ints
    back_day: Ints
    user: Ints
    order_off: Ints
    lag: Ints
    is_redeemed: NDArray[np.bool_]


def sums(index: Ints, values: Ints, size: int) -> Ints:
    """`(size,)` int64 sums by index, exact below 2**53."""
    return np.bincount(index, values, size).astype(np.int64)


def check_out(
    world: World, state: State, basket: Basket, luck: Floats, line_luck: Floats, day: int
) -> Lines:
    """Orders of a day; changes `state`.

    Args:
        world: what is the same for all users.
        state: stocks, references and redemptions; changed in place.
        basket: what visitors took.
        luck: `(n_visits, N_TRIP)` uniforms of the visits.
        line_luck: `(n_lines, N_LINE)` uniforms of the lines.
        day: day of the campaign.
    """
    config, menu, n_visits = world.config, world.menu, len(basket.user)
    item = basket.category * config.items_per_category + basket.place
    price = paid_cents(world.supply, world.depth[day + config.history_days])[item]
    arm = basket.arm[basket.order]
    in_scope = menu.scope[arm, item]
    units = _raise(world, basket, price, in_scope, luck[:, 1])
    value = sums(basket.order, in_scope * units * price, n_visits)
    n_lines = sums(basket.order, in_scope.astype(np.int64), n_visits)
    is_redeemed = (
        (basket.arm > 0)
        & (value >= menu.min_cents[basket.arm])
        & (n_lines >= menu.min_lines[basket.arm])
    )
    rate = np.where(is_redeemed[basket.order], menu.line_off[arm, item], 0.0)
    off = np.rint(rate * (units * price)).astype(np.int64)
    order_off = np.where(is_redeemed, np.minimum(menu.order_off[basket.arm], value), 0)
    u = line_luck[:, 1]
    is_back = u < config.return_rate
    wait = -np.log(u / max(config.return_rate, 1e-300)) * config.return_days
    back_day = np.where(is_back, day + 1 + np.floor(wait).astype(np.int64), -1)
    lag = np.floor(config.lag_days * (-np.log(luck[:, 2])) ** (1.0 / config.lag_shape))
    is_clipped = line_luck[:, 2] < basket.clips[basket.order]
    maker_off = np.where(is_clipped, np.rint(_MAKER_OFF * units * price), 0.0).astype(np.int64)
    lines = Lines(
        basket.order, item, units, price, off, maker_off, back_day,
        basket.user, order_off, lag.astype(np.int64), is_redeemed,
    )  # fmt: skip
    _remember(config, world, state, lines, basket.category)
    return lines


def _raise(
    world: World, basket: Basket, price: Ints, in_scope: NDArray[np.bool_], pull: Floats
) -> Ints:
    """Units after baskets just below a threshold were raised by units of their cheapest line."""
    menu, n_visits = world.menu, len(basket.user)
    need = menu.min_cents[basket.arm]
    if not (need > 1).any():
        return basket.units
    value = sums(basket.order, in_scope * basket.units * price, n_visits)
    is_near = (value < need) & (value >= (1.0 - _REACH) * need) & (pull < world.config.pull_rate)
    rows = np.flatnonzero(is_near[basket.order] & in_scope)
    by_price = rows[np.lexsort((price[rows], basket.order[rows]))]
    orders, first = np.unique(basket.order[by_price], return_index=True)
    line = by_price[first]
    more = -(-(need[orders] - value[orders]) // price[line])
    fits = basket.units[line] + more <= MAX_UNITS
    units = basket.units.copy()
    units[line[fits]] += more[fits]
    return units


def _remember(
    config: MarketConfig, world: World, state: State, lines: Lines, category: Ints
) -> None:
    """Put purchases into stock and prices into memory; a user has one visit a day."""
    user = lines.user[lines.order]
    state.stock[user, category] += lines.units * (lines.back_day < 0)
    paid = np.maximum(lines.price - (lines.off + lines.maker_off) / lines.units, 1.0)
    seen = np.log(paid / world.supply.list_cents[lines.item])
    keep = config.reference_memory
    old = state.reference[user, category]
    state.reference[user, category] = keep * old + (1.0 - keep) * seen
    state.is_redeemed[lines.user[lines.is_redeemed]] = True
