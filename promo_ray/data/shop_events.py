"""The history of the simulated shop: orders, lines at weekly prices, views and returns.

An order of user i in week w holds a Poisson number of lines of item k with a rate proportional to
`share_ik * (price_kw / list_k) ** elasticity_k`, so that the elasticity of weekly item sales is
the planted one. Lines are proposed at the highest rate that promotions can raise them to and
thinned by the user's deal-proneness (Lewis and Shedler 1979); proposals that were dropped become
views now and then, and an order without a line is no order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promo_ray.artifacts.events import SCHEMA
from promo_ray.data.shop_config import ShopConfig
from promo_ray.data.shop_market import QUANTITY_MEAN, Market, market_of
from promo_ray.data.shop_traits import Traits, traits_of
from promo_ray.seeding import normals, uniforms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ORDER_STEP = np.uint64(0xD1342543DE82EF95)  # odd: keys of a user's orders never meet
_LINE_STEP = np.uint64(0xAF251AF3B0F025B5)
# Share of dropped proposals that are logged as views: bargain hunters browse more.
_VIEW_BASE, _VIEW_DEAL = 0.05, 0.25
_CHANNELS = ("web", "app", "store")
_US_PER_DAY = 86_400_000_000
# Demand-weighted mean deal-proneness, around which the tilt is centred: frequent users, who
# weigh more, are less deal-prone than the mean user.
_DEAL_CENTER = 0.339


class _Orders(NamedTuple):
    """Candidate orders, sorted by user and time."""

    user: Ints
    rank: Ints
    day: Floats
    keys: NDArray[np.uint64]


class _Lines(NamedTuple):
    """Kept lines (`is_bought`) and views."""

    order: Ints
    item: Ints
    is_bought: NDArray[np.bool_]
    keys: NDArray[np.uint64]


def poisson_counts(u: Floats, rate: Floats) -> Ints:
    """Poisson counts by inversion: the smallest k with `P(N <= k) >= u`, monotone in `rate`.

    Args:
        u: uniforms in (0, 1), any shape.
        rate: expected counts in [0, 600], shape broadcastable with `u`.

    Returns:
        int64 counts of the common shape.
    """
    u, rate = np.broadcast_arrays(u, rate)
    count = np.zeros(u.shape, dtype=np.int64)
    term = np.exp(-rate)
    cdf = term.copy()
    k = 0
    # The cap ends the loop when rounding keeps the sum of the terms below a u close to one.
    limit = int(np.max(rate, initial=0.0) * 2 + 60)
    while k < limit and np.any(missing := u > cdf):
        k += 1
        term = term * (rate / k)
        cdf = cdf + term
        count += missing
    return count


@lru_cache(maxsize=4)
def _calendar(config: ShopConfig) -> Floats:
    """`(n_days + 1,)` cumulative traffic: weekends and the turn of the month are busier."""
    day = np.arange(config.n_days)
    weekday = np.array([0.9, 0.85, 0.9, 1.0, 1.15, 1.25, 0.95])
    first = np.datetime64(config.start)
    weekday_of = ((first + day).astype("datetime64[D]").astype(np.int64) + 3) % 7
    season = 1.0 + 0.08 * np.sin(2 * np.pi * day / 91.0)
    weight = weekday[weekday_of] * season
    return np.concatenate([[0.0], np.cumsum(weight / weight.mean())])


def _orders(config: ShopConfig, traits: Traits) -> _Orders:
    """Orders of a Poisson process with the calendar's and the user's own intensity."""
    total = _calendar(config)
    grid = np.arange(config.n_days + 1.0)
    begin = np.interp(np.maximum(traits.join_day, 0.0), grid, total)
    stop = np.interp(traits.stop_day, grid, total)
    before = stop - begin
    mass = before + traits.residual * (total[-1] - stop)
    u = uniforms(config.seed, "shop.count", traits.keys)[:, 0]
    # A user of the highest rates orders once a day at most over the years that fit here.
    count = poisson_counts(u, np.minimum(traits.rate * mass, 500.0))
    user = np.repeat(np.arange(len(count)), count)
    index = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
    keys = traits.keys[user] + (index.astype(np.uint64) + np.uint64(1)) * _ORDER_STEP
    spot = uniforms(config.seed, "shop.time", keys)[:, 0] * mass[user]
    late = stop[user] + (spot - before[user]) / traits.residual[user]
    day = np.interp(np.where(spot <= before[user], begin[user] + spot, late), total, grid)
    day = np.minimum(np.floor(day), config.n_days - 1) + (7.0 + 15.0 * (day % 1.0)) / 24.0
    order = np.lexsort((day, user))
    return _Orders(user[order], index, day[order], keys[order])


def _tilt(config: ShopConfig, deal: Floats) -> Floats:
    """Factor on the demand of a promoted item: above one for deal-prone users, mean one."""
    return 1.0 + config.promotion_tilt * (deal - _DEAL_CENTER) / _DEAL_CENTER


def _weekly_weights(market: Market, n_cells: int) -> tuple[Ints, Floats, Floats]:
    """Items sorted by cell; demand of cells per week; cumulative demand of sorted items per week.

    Returns:
        `(n_items,)` item of each place, `(n_weeks, n_cells)` demand of the cell relative to its
        demand at list prices, `(n_weeks, n_items + 1)` cumulative demand over places.
    """
    n_weeks = market.paid.shape[1]
    ratio = market.paid / market.list_price[:, None]
    on_sale = np.arange(n_weeks) < market.active_weeks[:, None]
    demand = market.popularity[:, None] * ratio ** market.elasticity[:, None] * on_sale
    place = np.argsort(market.cell, kind="stable")
    running = np.zeros((n_weeks, len(place) + 1))
    np.cumsum(demand[place].T, axis=1, out=running[:, 1:])
    edges = np.searchsorted(market.cell[place], np.arange(n_cells + 1))
    relative = np.diff(running[:, edges], axis=1) / np.maximum(market.cell_demand, 1e-300)
    return place, relative, running


def _pick(weights: Floats, row: Ints, u: Floats) -> tuple[Ints, Floats]:
    """Column drawn by weight in each `row` of `weights`, and a fresh uniform from the remainder."""
    running = np.cumsum(weights, axis=1)
    running /= running[:, -1:]
    flat = (running + np.arange(len(running))[:, None]).ravel()
    n_columns = weights.shape[1]
    column = np.searchsorted(flat, row + u, side="left") - row * n_columns
    column = np.clip(column, 0, n_columns - 1)
    high = running[row, column]
    low = np.where(column > 0, running[row, column - 1], 0.0)
    return column, np.clip((u - low) / np.maximum(high - low, 1e-300), 0.0, 1.0)


def _lines(config: ShopConfig, traits: Traits, orders: _Orders) -> _Lines:
    market = market_of(config)
    n_cells = traits.cells.shape[1]
    place, relative, running = _weekly_weights(market, n_cells)
    week = orders.day.astype(np.int64) // 7
    weights = traits.cells[orders.user] * relative[week]
    price = traits.cells @ market.cell_price
    noise = normals(config.seed, "shop.basket", orders.keys)[:, 0]
    mu, sd = traits.basket_mu[orders.user], traits.basket_sd[orders.user]
    # Counts of lines spread the order value too, so that the planned value gets half the sd.
    value = np.exp(mu + 0.375 * sd**2 + 0.5 * sd * noise)
    top_tilt = float(_tilt(config, np.ones(1))[0])
    expected = value / (price[orders.user] * QUANTITY_MEAN) * weights.sum(axis=1) * top_tilt
    u = uniforms(config.seed, "shop.lines", orders.keys)[:, 0]
    count = poisson_counts(u, np.minimum(expected, 300.0))

    order = np.repeat(np.arange(len(count)), count)
    index = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    keys = orders.keys[order] + (index.astype(np.uint64) + np.uint64(1)) * _LINE_STEP
    draws = uniforms(config.seed, "shop.item", keys, 3).T
    cell, rest = _pick(weights, order, draws[0])
    line_week = week[order]
    edges = np.searchsorted(market.cell[place], np.arange(n_cells + 1))
    low = running[line_week, edges[cell]]
    high = running[line_week, edges[cell + 1]]
    # One sorted array of all weeks: the running demand of week w lies in [w, w + 1).
    scale = running[:, -1:] * (1.0 + 1e-9)
    flat = (running[:, 1:] / scale + np.arange(len(running))[:, None]).ravel()
    target = (low + (high - low) * rest) / scale[line_week, 0] + line_week
    at = np.searchsorted(flat, target, side="left") - line_week * len(place)
    item = place[np.clip(at, edges[cell], edges[cell + 1] - 1)]
    is_promoted = market.depth[item, line_week] > 0
    deal = traits.deal[orders.user[order]]
    tilt = np.where(is_promoted, _tilt(config, deal), 1.0)
    is_bought = draws[1] * top_tilt < tilt
    keep = is_bought | (draws[2] < _VIEW_BASE + _VIEW_DEAL * deal)
    return _Lines(order[keep], item[keep], is_bought[keep], keys[keep])


def events_table(config: ShopConfig, user_ids: Sequence[str]) -> pa.Table:
    """Table `events` of the history of users, sorted by user and time."""
    ids = sorted(user_ids)
    traits = traits_of(config, ids)
    orders = _orders(config, traits)
    lines = _lines(config, traits, orders)
    market = market_of(config)
    u = uniforms(config.seed, "shop.detail", lines.keys, 4).T
    day = orders.day[lines.order]
    week = day.astype(np.int64) // 7
    quantity = 1 + poisson_counts(u[0], np.asarray(QUANTITY_MEAN - 1.0))
    bought = lines.is_bought
    paid, regular = market.paid[lines.item, week], market.regular[lines.item, week]
    off = np.round((regular - paid) * quantity, 2)
    # Views come up to twenty minutes before the order, returns two to twenty days after it.
    view_day = day - u[1] * 20.0 / 1440.0
    back_day = day + 2.0 + 18.0 * u[2]
    is_back = bought & (u[3] < config.return_rate) & (back_day < config.n_days)
    back = np.flatnonzero(is_back)
    at = np.concatenate([np.where(bought, day, view_day), back_day[back]])
    row = np.concatenate([np.arange(len(bought)), back])
    kind = np.concatenate([np.where(bought, 1, 0), np.full(len(back), 2)])
    user = orders.user[lines.order][row]
    micros = np.round(at * _US_PER_DAY).astype(np.int64)
    sort = np.lexsort((row, kind, micros, user))
    row, kind, user, micros = row[sort], kind[sort], user[sort], micros[sort]
    order = lines.order[row]
    instant = np.datetime64(config.start, "us") + micros.astype("timedelta64[us]")
    names = pa.array(ids, pa.string()).take(pa.array(user))
    number = pc.utf8_lpad(pa.array(orders.rank[order]).cast(pa.string()), 4, "0")
    own_channel = uniforms(config.seed, "shop.channel", orders.keys)[:, 0]
    habit = uniforms(config.seed, "shop.habit", traits.keys)[:, 0][orders.user]
    # Three orders in four go through the user's usual channel.
    channel = ((np.where(own_channel < 0.75, habit, own_channel * 4 - 3)) * 3).astype(np.int64)
    is_order = pa.array(kind > 0)
    return pa.table(
        {
            "user_id": names,
            "item_id": pa.array(market.item_ids, pa.string()).take(pa.array(lines.item[row])),
            "event_type": pa.array(["view", "purchase", "return"]).take(pa.array(kind)),
            "at": pa.array(instant).cast(SCHEMA.field("at").type),
            "quantity": pa.array(np.where(kind > 0, quantity[row], 0), pa.int32()),
            "unit_price": paid[row],
            "discount": pa.array(off[row], mask=kind != 1),
            "channel": pa.array(_CHANNELS).take(pa.array(channel[order])),
            "session_id": pc.binary_join_element_wise(names, number, "-s"),
            "order_id": pc.if_else(is_order, pc.binary_join_element_wise(names, number, "-"), None),
            "rating": pa.nulls(len(row), pa.float32()),
            "text": pa.nulls(len(row), pa.string()),
            "offer_id": pa.nulls(len(row), pa.string()),
        },
        schema=SCHEMA,
    )
