"""Own-price elasticity of every item: Poisson pseudo-likelihood, then partial pooling.

Weekly units of item i follow E[y_it] = exp(a_i + b_i log p_it + c_it) with an effect a_i of the
item and c_it of the week. Poisson pseudo-maximum likelihood (Santos Silva and Tenreyro 2006,
Rev. Econ. Stat. 88:641-658) is consistent whatever the variance and needs no log of zero sales.
Only price changes of the same item over time count (item effects); promotional and base prices
are not told apart, and cross effects are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.pricing.panel import WeeklyPanel
from promo_ray.pricing.params import PricingParams
from promo_ray.pricing.pooling import pool

Floats = NDArray[np.float64]

MAX_ELASTICITY = -0.1  # demand that grows with price is never planned on
_LOWEST, _HIGHEST = -15.0, 10.0  # of a single item's estimate, where sales separate prices
_N_ROUNDS = 12
_N_NEWTON = 8
_TOLERANCE = 1e-6
_PRIOR_WEEKS = 13.0  # weeks that the common factor of excess variance counts as


class ElasticityTable(NamedTuple):
    """Elasticities of items, in the order of the panel.

    Attributes:
        item_ids: ids.
        categories: names of categories.
        category: `(n,)` int64 category of each item.
        elasticity: `(n,)` float64 after pooling, <= -0.1.
        se: `(n,)` float64 standard error after pooling.
        raw: `(n,)` float64 estimate of the item alone; NaN where its price never moved.
        raw_se: `(n,)` float64; infinite where the price never moved.
        n_weeks: `(n,)` int64 weeks on sale behind the estimate.
        low_price: `(n,)` float64 lowest observed price, currency units.
        high_price: `(n,)` float64 highest observed price.
        is_guarded: `(n,)` whether the sign guard set the elasticity.
        category_elasticity: `(g,)` float64 means of categories, <= -0.1.
        category_se: `(g,)` float64 standard error for an item of the category without data.
    """

    item_ids: tuple[str, ...]
    categories: tuple[str, ...]
    category: NDArray[np.int64]
    elasticity: Floats
    se: Floats
    raw: Floats
    raw_se: Floats
    n_weeks: NDArray[np.int64]
    low_price: Floats
    high_price: Floats
    is_guarded: NDArray[np.bool_]
    category_elasticity: Floats
    category_se: Floats


def fit_elasticity(panel: WeeklyPanel, params: PricingParams | None = None) -> ElasticityTable:
    """Elasticity of every item of a panel.

    Args:
        panel: weekly units and prices.
        params: hyperparameters; defaults if None.
    """
    params = params or PricingParams()
    n, t = panel.units.shape
    age = np.arange(t - 1, -1, -1)
    weight = panel.is_open * 0.5 ** (age / params.memory_half_life_weeks)
    price = np.where(panel.is_open, panel.price, 1.0)
    log_price = np.log(price)
    total = np.maximum(weight.sum(axis=1), 1e-300)
    x = log_price - ((weight * log_price).sum(axis=1) / total)[:, None]
    raw, week = np.zeros(n), np.zeros((n, t))
    for _ in range(_N_ROUNDS):
        before = raw
        raw, mu = _item_fit(panel.units, x, week, weight, raw)
        if params.week_effect == "none":
            break
        week = _week_effects(panel, mu * np.exp(-week), params)
        if np.abs(raw - before).max(initial=0.0) < _TOLERANCE:
            break
    raw_se = _standard_error(panel.units, x, mu, weight)
    pooled = pool(raw, raw_se, panel.category, len(panel.categories), params.pooling_strength)
    shown = np.where(panel.is_open, panel.price, np.nan)
    return ElasticityTable(
        panel.item_ids,
        panel.categories,
        panel.category,
        np.minimum(pooled.mean, MAX_ELASTICITY),
        pooled.se,
        np.where(np.isfinite(raw_se), raw, np.nan),
        raw_se,
        panel.is_open.sum(axis=1),
        np.nanmin(shown, axis=1),
        np.nanmax(shown, axis=1),
        pooled.mean > MAX_ELASTICITY,
        np.minimum(pooled.group_mean, MAX_ELASTICITY),
        pooled.group_se,
    )


def _level(units: Floats, shape: Floats, weight: Floats) -> Floats:
    """Expected units when the item's effect is profiled out: totals of the item are matched."""
    sold = (weight * units).sum(axis=1)
    scale = sold / np.maximum((weight * shape).sum(axis=1), 1e-300)
    level: Floats = shape * scale[:, None]
    return level


def _item_fit(
    units: Floats, x: Floats, week: Floats, weight: Floats, start: Floats
) -> tuple[Floats, Floats]:
    """Slopes `(n,)` by Newton on the concave profile likelihood, and expected units `(n, t)`."""
    slope = start
    for _ in range(_N_NEWTON):
        mu = _level(units, np.exp(np.clip(slope[:, None] * x, -50, 50) + week), weight)
        centered = _centered(x, weight * mu)
        gradient = (weight * (units - mu) * x).sum(axis=1)
        information = (weight * mu * centered**2).sum(axis=1)
        step = np.divide(gradient, information, out=np.zeros_like(slope), where=information > 1e-12)
        slope = np.clip(slope + np.clip(step, -2.0, 2.0), _LOWEST, _HIGHEST)
        if np.abs(step).max(initial=0.0) < _TOLERANCE:
            break
    return slope, _level(units, np.exp(np.clip(slope[:, None] * x, -50, 50) + week), weight)


def _centered(x: Floats, weight: Floats) -> Floats:
    total = np.maximum(weight.sum(axis=1), 1e-300)
    centered: Floats = x - ((weight * x).sum(axis=1) / total)[:, None]
    return centered


def _week_effects(panel: WeeklyPanel, mu: Floats, params: PricingParams) -> Floats:
    """Log effect `(n, t)` of the week on each item, measured on other items alone.

    Sales over expectation with `week_prior_units` added to both (gamma prior with mean 1, Clayton
    and Kaldor 1987). `week` looks at other categories, whose sales a promotion of the item does
    not take; `category_week` at the rest of the category.
    """
    sold = np.where(panel.is_open, panel.units, 0.0)
    expected = np.where(panel.is_open, mu, 0.0)
    sums = np.zeros((2, len(panel.categories), sold.shape[1]))
    np.add.at(sums[0], panel.category, sold)
    np.add.at(sums[1], panel.category, expected)
    own = sums[:, panel.category]
    if params.week_effect == "category_week":
        others, hoped = own[0] - sold, own[1] - expected
    else:
        others, hoped = sums.sum(axis=1)[:, None] - own
    prior = params.week_prior_units
    ratio = (np.maximum(others, 0.0) + prior) / (np.maximum(hoped, 0.0) + prior)
    effect: Floats = np.log(ratio)
    return effect


def _standard_error(units: Floats, x: Floats, mu: Floats, weight: Floats) -> Floats:
    """Standard errors of slopes `(n,)`, infinite where the price never moved.

    The Poisson variance times how much more sales vary, at least 1: the sandwich with leverages
    taken out (HC3, MacKinnon and White 1985), as promoted weeks vary most and weigh most. An
    item's few weeks give that factor badly, so it is moderated by all items' (Smyth 2004).
    """
    centered = _centered(x, weight * mu)
    pull = weight * mu * centered**2
    information = pull.sum(axis=1)
    n_weeks = (weight > 0).sum(axis=1)
    is_known = (information > 1e-9) & (n_weeks > 2)
    safe = np.where(is_known, information, 1.0)
    total = np.maximum((weight * mu).sum(axis=1), 1e-300)
    leverage = np.minimum(pull / safe[:, None] + weight * mu / total[:, None], 0.9)
    score = weight * (units - mu) * centered / (1.0 - leverage)
    sandwich = (score**2).sum(axis=1) / safe**2
    poisson = (weight**2 * mu * centered**2).sum(axis=1) / safe**2
    excess = np.divide(sandwich, poisson, out=np.ones_like(poisson), where=is_known)
    common = float(np.median(excess[is_known])) if is_known.any() else 1.0
    own = n_weeks / (n_weeks + _PRIOR_WEEKS)
    factor = np.maximum(1.0, own * excess + (1.0 - own) * common)
    error: Floats = np.where(is_known, np.sqrt(factor * poisson), np.inf)
    return error
