"""The market's purchases and returns as a canonical `events` table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.artifacts.events import EVENTS
from promo_ray.data.market.checkout import Lines, sums
from promo_ray.data.market.day import given_of
from promo_ray.data.market.households import Population
from promo_ray.data.market.replay import settle
from promo_ray.data.market.shared import friends_contacted, shared_by, shared_day
from promo_ray.data.market.world import World
from promo_ray.seeding import keys_of, uniforms

Ints = NDArray[np.int64]
_OPEN_S, _HOURS_S = 8 * 3600, 12 * 3600  # the shop's day


def purchases_of(
    world: World, user_ids: Sequence[str], arm: Ints, population: Population | None
) -> dict[str, NDArray[Any]]:
    """Lines of users, history and campaign, by day and user.

    Returns:
        Arrays of one length: `user` (row), `day`, `item`, `units`, `paid` and `discount` (currency
        units of the line), `maker` (the part that a maker's coupon paid), `offer` (arm, 0 = none),
        `back_day` (-1 = kept), `lag` (days until booked).
    """
    parts: list[dict[str, NDArray[Any]]] = []

    def keep(lines: Lines, day: int) -> None:
        parts.append(_rows(world, lines, day, arm))

    settled = settle(world, user_ids, population, keep)
    state = settled.state.copy()
    friends = friends_contacted(world.config, user_ids, arm)
    given = given_of(world, settled.homes, arm, friends)
    left = shared_by(world.config, len(user_ids))
    for day in range(world.config.horizon_days):
        lines, taken = shared_day(world, settled.homes, given, state, day, left)
        left = left.less(taken)
        keep(lines, day)
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _rows(world: World, lines: Lines, day: int, arm: Ints) -> dict[str, NDArray[Any]]:
    gross = lines.units * lines.price - lines.off
    of_order = np.maximum(sums(lines.order, gross, len(lines.user)), 1)
    spread = lines.order_off[lines.order] * gross / of_order[lines.order]
    paid = np.maximum(gross - spread - lines.maker_off, 0.0) / 100.0
    full = lines.units * world.supply.list_cents[lines.item] / 100.0
    user = lines.user[lines.order]
    return {
        "user": user,
        "day": np.full(len(user), day),
        "item": lines.item,
        "units": lines.units,
        "paid": paid,
        "discount": full - paid,
        "maker": lines.maker_off / 100.0,
        "offer": np.where(lines.off + spread > 0, arm[user], 0),
        "back_day": lines.back_day,
        "lag": lines.lag[lines.order],
    }


def events_of(
    world: World, user_ids: Sequence[str], arm: Ints, population: Population | None
) -> pa.Table:
    """Purchases and returns of users, history and campaign, sorted by user and time.

    An order's discount is spread over its lines by value; times of day belong to the user and day.
    """
    config, rows = world.config, purchases_of(world, user_ids, arm, population)
    back = np.flatnonzero(rows["back_day"] >= 0)
    n = len(rows["user"])
    source = np.concatenate([np.arange(n), back])
    is_return = np.arange(len(source)) >= n
    day = np.where(is_return, rows["back_day"][source], rows["day"][source] + rows["lag"][source])
    user = rows["user"][source]
    keys = keys_of(user_ids)[user] + rows["day"][source].astype(np.uint64)
    second = _OPEN_S + np.floor(uniforms(config.seed, "market.time", keys)[:, 0] * _HOURS_S)
    at = np.datetime64(config.start, "s") + (day * 86_400 + second.astype(np.int64))
    order = np.lexsort((rows["item"][source], is_return, at.astype(np.int64), user))
    picked, ids = source[order], np.asarray(user_ids)
    offers = np.array([None, *world.menu.offer_ids], dtype=object)
    orders = [f"{ids[u]}-{d}" for u, d in zip(rows["user"][picked], rows["day"][picked],
                                              strict=True)]  # fmt: skip
    columns = {
        "user_id": pa.array(ids[rows["user"][picked]], pa.string()),
        "item_id": pa.array(np.asarray(world.supply.item_ids)[rows["item"][picked]], pa.string()),
        "event_type": pa.array(np.where(is_return[order], "return", "purchase"), pa.string()),
        "at": pa.array(at[order].astype("datetime64[us]")).cast(pa.timestamp("us", tz="UTC")),
        "quantity": pa.array(rows["units"][picked].astype(np.int32)),
        "unit_price": rows["paid"][picked] / rows["units"][picked],
        "discount": rows["discount"][picked],
        "order_id": pa.array(orders, pa.string()),
        "offer_id": pa.array(offers[rows["offer"][picked]].tolist(), pa.string()),
    }
    schema = EVENTS.tables["events"].schema
    nulls = {f.name: pa.nulls(len(picked), f.type) for f in schema if f.name not in columns}
    return pa.table({f.name: {**columns, **nulls}[f.name] for f in schema}, schema=schema)
