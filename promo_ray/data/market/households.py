"""Households of the market: traits from each user's own key or from rows of a real population."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri
from scipy.stats import rankdata

from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.supply import supply_of
from promo_ray.errors import DataError
from promo_ray.seeding import keys_of, normals, stream, uniforms

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

# Correlations of activity, basket, deal-proneness, price sensitivity and loyalty.
_CORRELATION = np.array(
    [
        [1.0, -0.2, -0.15, 0.0, 0.35],
        [-0.2, 1.0, -0.15, -0.1, 0.0],
        [-0.15, -0.15, 1.0, 0.4, -0.25],
        [0.0, -0.1, 0.4, 1.0, -0.1],
        [0.35, 0.0, -0.25, -0.1, 1.0],
    ]
)
_N_FACTORS = len(_CORRELATION)
_MAX_LEVELS = 20  # values of a column of strings that get an indicator of their own


class Households(NamedTuple):
    """Traits of `n` users in their order; float32 where not said otherwise.

    Attributes:
        keys: `(n,)` uint64 keys.
        factors: `(n, 5)` float64 standard normal activity, basket, deal, sensitivity, loyalty.
        rate: `(n,)` visits per day before season and recency.
        alpha: `(n, n_categories)` logit of buying in a category on a visit at list prices.
        brand: `(n, items_per_category)` utility of brands.
        value: `(n, n_categories)` inclusive value of a category at list prices.
        beta: `(n,)` price coefficient, >= 0.
        use: `(n,)` chance that a contact makes the user use the offer.
        lift: `(n,)` log lift of the visit rate at a full saving.
        dog: `(n,)` log loss of the visit rate after contact; 0 for all but sleeping dogs.
        eats: `(n, n_categories)` units used up per day at the usual stock.
        wave: `(n,)` int64 wave of the campaign in which the user takes part.
    """

    keys: NDArray[np.uint64]
    factors: Floats
    rate: Singles
    alpha: Singles
    brand: Singles
    value: Singles
    beta: Singles
    use: Singles
    lift: Singles
    dog: Singles
    eats: Singles
    wave: NDArray[np.int64]


@dataclass(frozen=True)
class Population:
    """Rows of a real table of users, from which households are drawn whole.

    Attributes:
        table: one row per real user; any column but `user_id` counts as a covariate.
        scores: `(n_rows, d)` float64 normal scores of numbers and indicators of strings.
    """

    table: pa.Table
    scores: Floats

    @classmethod
    def of(cls, table: pa.Table) -> Population:
        """Population of a table, for example `Dataset.users` of an adapter.

        Raises:
            DataError: no row, or no covariate that varies.
        """
        frame = pl.DataFrame(table)
        columns: list[Floats] = []
        for name in (c for c in frame.columns if c != "user_id"):
            column = frame[name]
            if column.dtype.is_numeric() or column.dtype == pl.Boolean:
                number = column.cast(pl.Float64)
                filled = number.fill_null(number.median() or 0.0)
                columns.append(ndtri((rankdata(filled.to_numpy()) - 0.5) / max(len(frame), 1)))
            elif column.dtype == pl.String:
                levels = column.drop_nulls().unique().sort().to_list()[:_MAX_LEVELS]
                columns += [
                    (column == v).fill_null(False).to_numpy().astype(np.float64) for v in levels
                ]
        kept = [c for c in columns if c.std() > 0]
        if not kept:
            raise DataError("population must have a column that varies; got none")
        scores = np.stack([(c - c.mean()) / c.std() for c in kept], axis=1)
        return cls(table, scores)

    def rows(self, seed: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """`(n,)` row of each user, drawn with replacement from the user's key."""
        u = uniforms(seed, "market.row", keys)[:, 0]
        return np.floor(u * len(self.scores)).astype(np.int64)

    def factors(self, seed: int, rows: NDArray[np.int64]) -> Floats:
        """`(n, 5)` unit-variance linear mixtures of the covariates, the same for every user."""
        weights = stream(seed, "market", "population").normal(
            size=(self.scores.shape[1], _N_FACTORS)
        )
        mixed = (self.scores[:, :, None] * weights).sum(axis=1)
        return np.asarray(((mixed - mixed.mean(axis=0)) / mixed.std(axis=0))[rows])


def households_of(
    config: MarketConfig, user_ids: Sequence[str], population: Population | None = None
) -> Households:
    """Traits of users; row i depends on the settings and `user_ids[i]` alone."""
    keys = keys_of(user_ids)
    supply, seed, n = supply_of(config), config.seed, len(keys)
    root = np.linalg.cholesky(_CORRELATION)
    z = normals(seed, "market.factors", keys, _N_FACTORS)
    # No matrix product: its rounding may depend on the number of rows.
    factors = (z[:, None, :] * root).sum(axis=2)
    if population is not None:
        w = config.covariate_weight
        own = population.factors(seed, population.rows(seed, keys))
        factors = np.sqrt(w) * own + np.sqrt(1.0 - w) * factors
    activity, basket, deal, sensitivity, loyalty = factors.T
    rate = config.visits_per_week / 7.0 * np.exp(config.visit_spread * activity)
    taste = normals(seed, "market.category", keys, config.n_categories)
    alpha = logit(supply.demand) + config.category_spread * taste
    alpha += config.basket_spread * basket[:, None]
    focus = 1.0 + 0.25 * np.clip(loyalty, -2.0, 2.0)
    brand = config.brand_spread * focus[:, None] * normals(
        seed, "market.brand", keys, config.items_per_category
    )  # fmt: skip
    appeal = supply.appeal.reshape(config.n_categories, -1)
    utility = (brand[:, None, :] + appeal).astype(np.float32)
    u = uniforms(seed, "market.traits", keys, 2)
    dog_chance = expit(logit(max(config.dog_share, 1e-9)) + 0.8 * (loyalty - deal) - 0.3)
    is_dog = (u[:, 0] < dog_chance) & (config.dog_share > 0.0)
    proneness = expit(-0.5 + 1.5 * config.deal_spread * deal)
    eats = rate[:, None] * expit(alpha) * (1.0 + config.extra_units)
    singles = {
        "rate": rate,
        "alpha": alpha,
        "brand": brand,
        "value": np.log(np.exp(utility).sum(axis=2)),
        "beta": config.sensitivity * np.exp(config.sensitivity_spread * sensitivity),
        "use": expit(logit(config.redeem_rate) + config.deal_spread * deal),
        "lift": config.lift_strength * proneness,
        "dog": np.where(is_dog, config.dog_strength, np.zeros(n)),
        "eats": eats,
    }
    return Households(
        keys=keys,
        factors=factors,
        wave=np.floor(u[:, 1] * config.n_waves).astype(np.int64),
        **{name: value.astype(np.float32) for name, value in singles.items()},
    )
