"""What is true in the market: effects, values of policies, gains net of pull-forward, the bump."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class TrueEffects(NamedTuple):
    """Means over the replicates of the draws; exact for the draws, an estimate for the mean.

    Attributes:
        windows: lengths of the outcome windows, days.
        profit: `(n, n_arms, n_windows)` float64 margin after returns, discounts and contacts,
            currency units; arm 0 = control.
        revenue: the same of revenue.
        orders: the same of orders.
        discount: the same of discounts given away.
        se: `(n_arms, n_windows)` standard error over antithetic pairs of the mean profit effect of
            each arm; NaN for less than two pairs.
    """

    windows: tuple[int, ...]
    profit: Floats
    revenue: Floats
    orders: Floats
    discount: Floats
    se: Floats

    @property
    def uplift(self) -> Floats:
        """`(n, n_arms, n_windows)` profit less that of control."""
        return self.profit - self.profit[:, :1]


class PolicyValue(NamedTuple):
    """Profit per user of a policy and of contacting nobody, under the same draws.

    Attributes:
        windows: lengths of the outcome windows, days, ascending.
        value: `(n_windows,)` float64 currency units per user.
        nobody: `(n_windows,)` the same without any contact.
        se: `(n_windows,)` standard error of the gain over antithetic pairs of draws; NaN for less
            than two pairs.
    """

    windows: tuple[int, ...]
    value: Floats
    nobody: Floats
    se: Floats

    @property
    def gain(self) -> Floats:
        """`(n_windows,)` value less that of contacting nobody."""
        return self.value - self.nobody

    @property
    def pulled_forward(self) -> float:
        """Gain of the shortest window that the longest one takes back, currency per user."""
        return float(self.gain[0] - self.gain[-1])

    def __str__(self) -> str:
        short, long = self.gain[0], self.gain[-1]
        return (
            f"gain per user {short:+.3f} in {self.windows[0]} days, {long:+.3f} in "
            f"{self.windows[-1]} days (se {self.se[-1]:.3f}): "
            f"{short - long:+.3f} was pulled forward"
        )


class PromotionBump(NamedTuple):
    """Where the extra units of promoted items came from (van Heerde, Leeflang and Wittink 2004).

    With dy the difference of units between replays with and without the promotion,
    `bump = dy(promoted items, during) = cross_item + cross_period + growth`, where
    `cross_item = -dy(other items of their categories, during)`,
    `cross_period = -dy(their categories, after)` and `growth = dy(their categories, all days)`.

    Attributes:
        bump: extra units of the promoted items during the promotion.
        base: their units without it.
        cross_item: units taken from substitutes.
        cross_period: units taken from later days.
        growth: units that the categories gain for good.
        halo: units that all other categories gain.
        se: `(3,)` standard errors of the three shares over antithetic pairs of draws.
    """

    bump: float
    base: float
    cross_item: float
    cross_period: float
    growth: float
    halo: float
    se: Floats

    @property
    def shares(self) -> Floats:
        """`(3,)` shares of the bump: cross-item, cross-period, category growth."""
        return np.array([self.cross_item, self.cross_period, self.growth]) / self.bump

    def __str__(self) -> str:
        item, period, growth = self.shares
        return (
            f"bump of {self.bump:.0f} units on {self.base:.0f} ({self.bump / self.base:+.0%}): "
            f"{item:.2f} from other items, {period:.2f} from other periods, {growth:.2f} category "
            f"growth (se {self.se.max():.3f}); halo on other categories {self.halo:+.0f} units"
        )


def pair_error(values: Floats) -> Floats:
    """Standard error of the mean of replicates, antithetic pairs taken together.

    Args:
        values: `(n_replicates, ...)`, pairs adjacent.

    Returns:
        The shape without the first axis; NaN for less than two pairs.
    """
    n = len(values) // 2
    if n < 2:
        return np.full(values.shape[1:], np.nan)
    pairs = values[: 2 * n].reshape(n, 2, *values.shape[1:]).mean(axis=1)
    return np.asarray(pairs.std(axis=0, ddof=1) / np.sqrt(n))


def bump_of(
    with_units: Ints, without_units: Ints, is_promoted: NDArray[np.bool_], days: slice, size: int
) -> Floats:
    """Parts of the bump of one replicate.

    Args:
        with_units: `(n_days, n_items)` units sold with the promotion.
        without_units: the same without.
        is_promoted: `(n_items,)` bool.
        days: days of the promotion.
        size: items of each category.

    Returns:
        `(6,)` bump, base, cross-item, cross-period, growth, halo; units.
    """
    change = (with_units - without_units).astype(np.float64)
    inside = np.repeat(is_promoted.reshape(-1, size).any(axis=1), size)
    bump = change[days][:, is_promoted].sum()
    cross_item = -change[days][:, inside & ~is_promoted].sum()
    growth = change[:, inside].sum()
    cross_period = -(growth - change[days][:, inside].sum())
    base = without_units[days][:, is_promoted].sum()
    return np.array([bump, base, cross_item, cross_period, growth, change[:, ~inside].sum()])
