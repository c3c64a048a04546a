"""What the market sells: items, prices in whole cents, the shop's own weekly promotions."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.artifacts.catalog import SCHEMA
from promo_ray.data.market.config import MarketConfig
from promo_ray.seeding import stream

Floats = NDArray[np.float64]
Cents = NDArray[np.int64]

DEPTHS = np.array([0.10, 0.15, 0.20, 0.25, 0.30, 0.40])
_DEPARTMENTS = ("Grocery", "Household", "Beauty", "Pets", "Baby")


class Supply(NamedTuple):
    """Items, `n_items = n_categories * items_per_category`, category by category.

    Attributes:
        item_ids: `(n_items,)` ids.
        categories: `(n_categories,)` category paths.
        list_cents: `(n_items,)` int64 list price.
        cost_cents: `(n_items,)` int64 unit cost.
        appeal: `(n_items,)` float64 utility at list price of the mean household.
        demand: `(n_categories,)` float64 chance that a visit of the median household buys there.
        depth: `(n_weeks, n_items)` float64 depth of the shop's promotions; week 0 begins with the
            history.
        usual_cents: value of the usual basket at list prices.
    """

    item_ids: tuple[str, ...]
    categories: tuple[str, ...]
    list_cents: Cents
    cost_cents: Cents
    appeal: Floats
    demand: Floats
    depth: Floats
    usual_cents: int


@lru_cache(maxsize=8)
def supply_of(config: MarketConfig) -> Supply:
    """Items and the shop's promotions; the same for equal settings."""
    n_categories, size = config.n_categories, config.items_per_category
    rng = stream(config.seed, "market", "supply")
    level = np.repeat(rng.normal(np.log(2.6), 0.4, n_categories), size)
    price = np.exp(level + rng.normal(0.0, 0.2, config.n_items))
    list_cents = np.maximum(np.rint(price * 10.0).astype(np.int64) * 10 - 1, 49)
    margin = np.clip(rng.normal(0.35, 0.06, config.n_items), 0.2, 0.5)
    # The first brand of each category leads, as national brands do.
    appeal = np.tile(np.linspace(0.5, -0.5, size), n_categories) + rng.normal(
        0.0, 0.25, config.n_items
    )
    weight = rng.lognormal(0.0, 0.5, n_categories)
    demand = np.clip(config.basket_lines * weight / weight.sum(), 0.001, 0.8)
    n_weeks = -(-(config.history_days + config.horizon_days) // 7)
    weekly = stream(config.seed, "market", "promotions")
    is_on = weekly.random((n_weeks, config.n_items)) < config.promotion_share
    depth = np.where(is_on, weekly.choice(DEPTHS, (n_weeks, config.n_items)), 0.0)
    mean_price = float(demand @ list_cents.reshape(n_categories, size).mean(axis=1))
    return Supply(
        item_ids=tuple(f"i{i:05d}" for i in range(config.n_items)),
        categories=tuple(
            f"{_DEPARTMENTS[c % len(_DEPARTMENTS)]} > Category {c + 1:02d}"
            for c in range(n_categories)
        ),
        list_cents=list_cents,
        cost_cents=np.rint(list_cents * (1.0 - margin)).astype(np.int64),
        appeal=appeal - np.log(np.exp(appeal).reshape(n_categories, size).sum(axis=1)).repeat(size),
        demand=demand,
        depth=depth,
        usual_cents=max(round(mean_price * (1.0 + config.extra_units)), 1),
    )


def catalog_table(config: MarketConfig) -> pa.Table:
    """Table `catalog`, one row per item."""
    supply, size = supply_of(config), config.items_per_category
    paths = [path for path in supply.categories for _ in range(size)]
    brands = [f"Brand {i % size + 1}" for i in range(config.n_items)]
    titles = [f"{b} {path.split(' > ')[1]}" for b, path in zip(brands, paths, strict=True)]
    return pa.table(
        {
            "item_id": pa.array(supply.item_ids, pa.string()),
            "category": pa.array(paths, pa.string()),
            "brand": pa.array(brands, pa.string()),
            "title": pa.array(titles, pa.string()),
            "description": pa.nulls(config.n_items, pa.string()),
            "list_price": supply.list_cents / 100.0,
            "unit_cost": supply.cost_cents / 100.0,
            "stock": pa.nulls(config.n_items, pa.int64()),
            "is_active": np.ones(config.n_items, dtype=bool),
        },
        schema=SCHEMA,
    )


def paid_cents(supply: Supply, depth: Floats) -> Cents:
    """Shelf price after a reduction, whole cents; `depth` is `(..., n_items)` in [0, 1]."""
    return np.rint(supply.list_cents * (1.0 - depth)).astype(np.int64)


def felt_log_price(config: MarketConfig, supply: Supply, depth: Floats) -> NDArray[np.float32]:
    """Log of the felt price over the felt list price, <= 0; 0 for a reduction not felt.

    A share `ending_strength` of the cents of a price goes unseen (left-digit bias: Lacetera, Pope
    and Sydnor 2012); a depth d is felt as `(1 - exp(-s (d - floor))) / s`, s the saturation.

    Args:
        config: settings of the market.
        supply: its items.
        depth: `(..., n_items)` reduction of each item, in [0, 1].
    """
    unseen = config.ending_strength
    price = np.maximum(paid_cents(supply, depth), 1).astype(np.float64)
    seen = price - unseen * (price % 100)
    full = supply.list_cents - unseen * (supply.list_cents % 100)
    d = np.clip(1.0 - seen / full - config.perception_floor, 0.0, 0.99)
    if config.saturation > 0.0:
        d = -np.expm1(-config.saturation * d) / config.saturation
    return np.log1p(-d).astype(np.float32)
