"""The supply side of the simulated shop: items, costs, elasticities and weekly prices."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.artifacts.catalog import SCHEMA
from promo_ray.data.shop_config import ShopConfig
from promo_ray.seeding import stream

_CATEGORIES = (
    ("Grocery > Coffee", "Coffee"),
    ("Grocery > Snacks", "Crackers"),
    ("Grocery > Breakfast", "Muesli"),
    ("Household > Laundry", "Detergent"),
    ("Household > Kitchen", "Towels"),
    ("Beauty > Skin care", "Cream"),
    ("Beauty > Hair care", "Shampoo"),
    ("Pets > Dog", "Dog food"),
    ("Pets > Cat", "Cat food"),
    ("Baby > Care", "Wipes"),
    ("Grocery > Tea", "Tea"),
    ("Grocery > Baking", "Flour mix"),
    ("Household > Cleaning", "Cleaner"),
    ("Garden > Plants", "Plant food"),
    ("Office > Paper", "Notebook"),
    ("Sports > Nutrition", "Protein bar"),
)
_BRANDS = ("Northfield", "Alba", "Morrow", "Everyday")
_VARIANTS = ("Classic", "Fresh", "Dark", "Light", "Family", "Organic", "Mild", "Extra", "Pure")
N_BRANDS = len(_BRANDS)
QUANTITY_MEAN = 1.2  # units per line: 1 + Poisson(0.2)
DEPTHS = np.array([0.10, 0.15, 0.20, 0.25, 0.30])
_MOVE_RATE = 0.10  # chance per week that the regular price moves
_MOVE_RANGE = 0.12  # largest log distance of a regular price from the list price


class Market(NamedTuple):
    """Items in rows of the catalog; a cell is a category times a brand.

    Attributes:
        item_ids: `(n_items,)` ids.
        categories: `(n_categories,)` category paths.
        category: `(n_items,)` int64 category of each item.
        cell: `(n_items,)` int64 `category * N_BRANDS + brand`.
        popularity: `(n_items,)` float64 share of the category's demand at list price.
        list_price: `(n_items,)` float64 currency units.
        unit_cost: `(n_items,)` float64 currency units.
        elasticity: `(n_items,)` float64 own-price elasticity of demand, < 0.
        active_weeks: `(n_items,)` int64 weeks on sale, from the first.
        regular: `(n_items, n_weeks)` float64 price before promotion, currency units.
        paid: `(n_items, n_weeks)` float64 price paid, currency units.
        depth: `(n_items, n_weeks)` float64 promotion depth, 0 if none.
        cell_demand: `(n_cells,)` float64 share of the category's demand at list price.
        cell_price: `(n_cells,)` float64 mean list price, weighted by demand; 0 if empty.
        cell_cost: `(n_cells,)` float64 mean unit cost, weighted by demand; 0 if empty.
    """

    item_ids: tuple[str, ...]
    categories: tuple[str, ...]
    category: NDArray[np.int64]
    cell: NDArray[np.int64]
    popularity: NDArray[np.float64]
    list_price: NDArray[np.float64]
    unit_cost: NDArray[np.float64]
    elasticity: NDArray[np.float64]
    active_weeks: NDArray[np.int64]
    regular: NDArray[np.float64]
    paid: NDArray[np.float64]
    depth: NDArray[np.float64]
    cell_demand: NDArray[np.float64]
    cell_price: NDArray[np.float64]
    cell_cost: NDArray[np.float64]

    @property
    def is_active(self) -> NDArray[np.bool_]:
        """`(n_items,)` whether the item is still on sale at the end of the history."""
        return np.asarray(self.active_weeks == self.paid.shape[1], dtype=np.bool_)


def _category_name(i: int) -> tuple[str, str]:
    path, noun = _CATEGORIES[i % len(_CATEGORIES)]
    turn = i // len(_CATEGORIES)
    return (path, noun) if turn == 0 else (f"{path} {turn + 1}", noun)


def _prices(
    config: ShopConfig, list_price: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Regular price, paid price and promotion depth, each `(n_items, n_weeks)`."""
    rng = stream(config.seed, "shop", "prices")
    shape = (len(list_price), config.n_weeks)
    level = np.exp(rng.uniform(-_MOVE_RANGE, _MOVE_RANGE, shape))
    moves = rng.random(shape) < _MOVE_RATE
    # The level of a week is that of the last move; before the first one it is the list price.
    last = np.maximum.accumulate(np.where(moves, np.arange(shape[1]), -1), axis=1)
    level = np.where(last >= 0, np.take_along_axis(level, np.maximum(last, 0), axis=1), 1.0)
    regular = np.maximum(np.round(list_price[:, None] * level, 1) - 0.01, 0.49)
    regular = np.where(last >= 0, regular, list_price[:, None])
    is_promoted = rng.random(shape) < config.promotion_share
    depth = np.where(is_promoted, rng.choice(DEPTHS, shape), 0.0)
    return regular, np.round(regular * (1.0 - depth), 2), depth


@lru_cache(maxsize=4)
def market_of(config: ShopConfig) -> Market:
    """Items, costs, elasticities and weekly prices of a shop; the same for equal settings."""
    n, n_categories = config.n_items, config.n_categories
    rng = stream(config.seed, "shop", "catalog")
    # Two rounds of categories first, so that every category has at least two items.
    category = np.concatenate(
        [np.tile(np.arange(n_categories), 2), rng.integers(0, n_categories, n - 2 * n_categories)]
    ).astype(np.int64)
    cell = category * N_BRANDS + rng.integers(0, N_BRANDS, n)
    price_level = rng.normal(np.log(16.0), 0.3, n_categories)[category]
    list_price = np.maximum(np.floor(np.exp(price_level + rng.normal(0.0, 0.45, n))), 1.0) + 0.99
    margin_rate = np.clip(rng.normal(0.41, 0.07, n), 0.25, 0.55)
    unit_cost = np.round(list_price * (1.0 - margin_rate), 2)
    elasticity = -(1.2 + 2.8 * rng.beta(2.0, 2.5, n))
    weight = rng.lognormal(0.0, 0.8, n)
    popularity = weight / np.bincount(category, weight, n_categories)[category]
    is_delisted = (rng.random(n) < 0.04) & (np.arange(n) >= 2 * n_categories)
    active_weeks = np.where(is_delisted, rng.integers(1, config.n_weeks, n), config.n_weeks)
    regular, paid, depth = _prices(config, list_price)
    n_cells = n_categories * N_BRANDS
    demand = np.bincount(cell, popularity, n_cells).astype(np.float64)
    safe = np.maximum(demand, 1e-300)
    return Market(
        item_ids=tuple(f"i{i:05d}" for i in range(n)),
        categories=tuple(_category_name(i)[0] for i in range(n_categories)),
        category=category,
        cell=cell,
        popularity=popularity,
        list_price=list_price,
        unit_cost=unit_cost,
        elasticity=elasticity,
        active_weeks=active_weeks,
        regular=regular,
        paid=paid,
        depth=depth,
        cell_demand=demand,
        cell_price=np.bincount(cell, popularity * list_price, n_cells) / safe,
        cell_cost=np.bincount(cell, popularity * unit_cost, n_cells) / safe,
    )


def catalog_table(config: ShopConfig) -> pa.Table:
    """Table `catalog` of a shop, one row per item."""
    market = market_of(config)
    rng = stream(config.seed, "shop", "words")
    brands = [_BRANDS[c % N_BRANDS] for c in market.cell]
    variants = rng.choice(_VARIANTS, len(brands))
    nouns = [_category_name(int(c))[1] for c in market.category]
    titles = [f"{b} {noun} {v}" for b, noun, v in zip(brands, nouns, variants, strict=True)]
    stock = np.where(market.is_active, rng.integers(200, 5000, len(brands)), 0)
    paths = [market.categories[c] for c in market.category]
    return pa.table(
        {
            "item_id": pa.array(market.item_ids, pa.string()),
            "category": pa.array(paths, pa.string()),
            "brand": pa.array(brands, pa.string()),
            "title": pa.array(titles, pa.string()),
            "description": pa.array(
                [f"{title}, from {path}." for title, path in zip(titles, paths, strict=True)],
                pa.string(),
            ),
            "list_price": market.list_price,
            "unit_cost": market.unit_cost,
            "stock": pa.array(stock, pa.int64()),
            "is_active": market.is_active,
        },
        schema=SCHEMA,
    )
