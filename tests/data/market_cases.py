"""Small markets in which one effect stands alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.data.dataset import offer_terms
from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.simulator import MarketSimulator

# Every effect off, all households alike.
PLAIN: dict[str, Any] = {
    "visit_spread": 0.0,
    "basket_spread": 0.0,
    "trip_spread": 0.0,
    "category_spread": 0.0,
    "brand_spread": 0.0,
    "weekday_strength": 0.0,
    "season_strength": 0.0,
    "payday_strength": 0.0,
    "recency_strength": 0.0,
    "sensitivity_spread": 0.0,
    "promotion_share": 0.0,
    "incidence_pull": 0.0,
    "quantity_pull": 0.0,
    "halo_strength": 0.0,
    "reference_strength": 0.0,
    "saturation": 0.0,
    "perception_floor": 0.0,
    "ending_strength": 0.0,
    "inventory_strength": 0.0,
    "lift_strength": 0.0,
    "reminder_strength": 0.0,
    "expiry_strength": 0.0,
    "maker_coupon_rate": 0.0,
    "dog_strength": 0.0,
    "fatigue_strength": 0.0,
    "pull_rate": 0.0,
    "return_rate": 0.0,
    "redeem_rate": 0.5,
    "deal_spread": 0.0,
    "n_categories": 4,
    "history_days": 1,
    "horizon_days": 42,
    "window_days": 14,
    "basket_lines": 1.5,
}


def plain(n_users: int = 2000, **settings: Any) -> MarketSimulator:
    return MarketSimulator(config=MarketConfig(**{**PLAIN, "n_users": n_users, **settings}))


def small(n_users: int = 300, **settings: Any) -> MarketSimulator:
    """All effects at their defaults, few days."""
    sizes = {"history_days": 14, "horizon_days": 28, "window_days": 14, "n_users": n_users}
    return MarketSimulator(config=MarketConfig(**{**sizes, **settings}))


def offers(*rows: dict[str, Any]) -> pa.Table:
    return offer_terms(
        {"offer_id": f"o{i}", "contact_cost": 0.0, "label": "offer", **row}
        for i, row in enumerate(rows)
    )


MESSAGE = {"mechanic": "message"}
TENTH = {"mechanic": "percent_off", "depth_rate": 0.1}
QUARTER = {"mechanic": "percent_off", "depth_rate": 0.25}


def everybody(market: MarketSimulator, arm: int = 1) -> NDArray[np.int64]:
    return np.full(market.config.n_users, arm)
