"""Sales levels, one-week forecasts, and how well they foretell held-out weeks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError
from promo_ray.pricing.elasticity import fit_elasticity
from promo_ray.pricing.panel import WeeklyPanel
from promo_ray.pricing.params import PricingParams

Floats = NDArray[np.float64]


def units_at(
    panel: WeeklyPanel, elasticity: Floats, price: Floats, half_life_weeks: float
) -> Floats:
    """Weekly units to expect next at given prices.

    With u_k units at price p_k k weeks ago and d = 0.5 ** (1 / half_life), the estimate is
    sum_k d^k u_k / sum_k d^k (p_k / p)^b: the Poisson rate at price p under constant elasticity b.
    Nothing is known of demand beyond the prices seen, so p is held within them: a clearance at a
    quarter of the lowest price would otherwise promise millions of units.

    Args:
        panel: weekly units and prices.
        elasticity: `(n,)` of each item.
        price: `(n,)` price asked, currency units.
        half_life_weeks: age at which a week counts half.

    Returns:
        `(n,)` float64 units per week; 0 for items never on sale.
    """
    t = panel.units.shape[1]
    weight = panel.is_open * 0.5 ** (np.arange(t - 1, -1, -1) / half_life_weeks)
    low = np.where(panel.is_open, panel.price, np.inf).min(axis=1)
    high = np.where(panel.is_open, panel.price, -np.inf).max(axis=1)
    asked = np.where(low <= high, np.clip(price, low, high), 1.0)
    paid = np.where(panel.is_open, panel.price, asked[:, None])
    log_ratio = np.log(paid / asked[:, None])
    exposure = (weight * np.exp(elasticity[:, None] * log_ratio)).sum(axis=1)
    sold = (weight * panel.units).sum(axis=1)
    expected: Floats = np.divide(sold, exposure, out=np.zeros_like(sold), where=exposure > 0)
    return expected


def rolling_losses(
    params: PricingParams, panel: WeeklyPanel, holdout_weeks: int
) -> Iterator[float]:
    """Loss after each held-out week, the oldest first; see `holdout_loss`.

    Each week is forecast from a fit on all weeks before it. The price of the week is taken as
    planned; items not on sale before it, or with no price, are left out.

    Yields:
        Weighted absolute percentage error (a rate) over the weeks so far.

    Raises:
        DataError: the panel is too short, or nothing was sold in the held-out weeks.
    """
    n_weeks = panel.units.shape[1]
    if not 1 <= holdout_weeks <= n_weeks - 3:
        raise DataError(
            f"must be in [1, weeks - 3] = [1, {n_weeks - 3}]; got {holdout_weeks}",
            where="holdout_weeks",
        )
    missed = sold = 0.0
    for week in range(n_weeks - holdout_weeks, n_weeks):
        past = panel.until(week)
        known = np.flatnonzero(past.is_open.any(axis=1) & panel.is_open[:, week])
        past = _only(past, known)
        if len(known):
            table = fit_elasticity(past, params)
            asked = panel.price[known, week]
            hoped = units_at(past, table.elasticity, asked, params.level_half_life_weeks)
            got = panel.units[known, week]
            missed += float(np.abs(got - hoped).sum())
            sold += float(got.sum())
        if sold == 0.0 and week == n_weeks - 1:
            raise DataError("must hold at least one sale; got none", where="held-out weeks")
        yield missed / sold if sold > 0 else float("inf")


def holdout_loss(params: PricingParams, panel: WeeklyPanel, holdout_weeks: int) -> float:
    """Weighted absolute percentage error of one-week-ahead item units over the last weeks.

    sum |units - forecast| / sum units over items and held-out weeks, each week forecast from a
    fit on the weeks before it.
    """
    *_, last = rolling_losses(params, panel, holdout_weeks)
    return last


def _only(panel: WeeklyPanel, items: NDArray[np.int64]) -> WeeklyPanel:
    return panel._replace(
        item_ids=tuple(panel.item_ids[i] for i in items),
        category=panel.category[items],
        units=panel.units[items],
        price=panel.price[items],
        is_open=panel.is_open[items],
    )
