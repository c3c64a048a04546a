"""What is fixed for a replay, and what changes from day to day."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.menu import Menu
from promo_ray.data.market.supply import Supply
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


@dataclass
class State:
    """What changes from day to day, one row per user.

    Attributes:
        last_visit: `(n,)` int64 day.
        stock: `(n, n_categories)` float32 units at home after the last visit.
        reference: `(n, n_categories)` float32 log of the reference price over the list price.
        is_redeemed: `(n,)` bool the offer was used.
    """

    last_visit: Ints
    stock: Singles
    reference: Singles
    is_redeemed: NDArray[np.bool_]

    def copy(self) -> State:
        """State with arrays of its own."""
        return State(**{f.name: getattr(self, f.name).copy() for f in fields(self)})
