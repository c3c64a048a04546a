"""What is fixed for a replay, and what changes from day to day."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.menu import Menu, menu_of
from promo_ray.data.market.supply import Supply, supply_of
from promo_ray.errors import DataError
from promo_ray.seeding import uniforms

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]


class World(NamedTuple):
    """What is the same for all users of a replay.

    Attributes:
        config: settings.
        supply: items.
        menu: offers.
        depth: `(history_days + horizon_days, n_items)` float64 depth of the shop's promotions.
        contact_days: days of contact after the start of a user's wave, ascending.
        replicate: number of the draws; an odd one is the antithetic of the even one before.
    """

    config: MarketConfig
    supply: Supply
    menu: Menu
    depth: Floats
    contact_days: tuple[int, ...] = (0,)
    replicate: int = 0

    def draws(self, name: str, day: int, keys: NDArray[np.uint64], size: int = 1) -> Floats:
        """`(n, size)` uniforms of users on a day."""
        u = uniforms(self.config.seed, f"market.{name}.{self.replicate // 2}.{day}", keys, size)
        return 1.0 - u if self.replicate % 2 else u


def world_of(
    config: MarketConfig,
    offers: pa.Table | None,
    depth: ArrayLike | None,
    contact_days: tuple[int, ...],
    replicate: int,
) -> World:
    """World of a replay.

    Args:
        config: settings.
        offers: offer terms; None = no offer.
        depth: `(horizon_days, n_items)` depth of the shop's promotions in the campaign; None = its
            own weekly ones.
        contact_days: days of contact after the start of a user's wave.
        replicate: number of the draws.

    Raises:
        DataError: an offer, a depth or a day is out of range.
    """
    supply = supply_of(config)
    own = daily_depth(config)
    if depth is not None:
        given = np.asarray(depth, dtype=np.float64)
        shape = (config.horizon_days, config.n_items)
        if given.shape != shape or not ((given >= 0.0) & (given <= 1.0)).all():
            raise DataError(f"must be {shape} in [0, 1]; got {given.shape}", where="depth")
        own = np.concatenate([own[: config.history_days], given])
    if not contact_days or list(contact_days) != sorted(set(contact_days)) or contact_days[0] < 0:
        raise DataError(f"must be ascending and >= 0; got {contact_days}", where="contact_days")
    if contact_days[-1] >= config.horizon_days:
        raise DataError(
            f"must be < {config.horizon_days}; got {contact_days}", where="contact_days"
        )
    menu = menu_of(config, supply, OFFER_TERMS.empty_table() if offers is None else offers)
    return World(config, supply, menu, own, contact_days, replicate)


def daily_depth(config: MarketConfig) -> Floats:
    """`(history_days + horizon_days, n_items)` depth of the shop's own promotions by day."""
    n_days = config.history_days + config.horizon_days
    return np.repeat(supply_of(config).depth, 7, axis=0)[:n_days]


def promotion_calendars(
    config: MarketConfig, is_promoted: NDArray[np.bool_], days: slice, depth: float
) -> tuple[Floats, Floats]:
    """Shop promotions of the campaign without and with one on some items.

    The items' own promotions are cleared on all days, those of their categories on `days`.
    """
    size = config.items_per_category
    base = daily_depth(config)[config.history_days :].copy()
    base[:, is_promoted] = 0.0
    base[days, np.repeat(is_promoted.reshape(-1, size).any(axis=1), size)] = 0.0
    deep = base.copy()
    deep[days, is_promoted] = depth
    return base, deep


@dataclass
class State:
    """What changes from day to day, one row per user.

    Attributes:
        last_visit: `(n,)` int64 day.
        stock: `(n, n_categories)` float32 units at home after the last visit.
        reference: `(n, n_categories)` float32 log of the reference price over the list price.
        is_redeemed: `(n,)` bool the offer was used, or the budget of all offers is spent.
    """

    last_visit: Ints
    stock: Singles
    reference: Singles
    is_redeemed: NDArray[np.bool_]

    def copy(self) -> State:
        """State with arrays of its own."""
        return State(**{f.name: getattr(self, f.name).copy() for f in fields(self)})
