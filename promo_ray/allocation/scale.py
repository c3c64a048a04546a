"""Units of the integer sums, from facts about all users: above every contribution, not far."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from promo_ray.allocation.kernel import Floats, Units, Where
from promo_ray.allocation.problem import Rows
from promo_ray.allocation.survey import Survey

_TYPICAL = 256.0  # times the mean use: curvature of users beyond is cut off


class Scale(NamedTuple):
    """How large numbers get.

    Attributes:
        value: above what one user is worth, currency.
        units: units at prices without floors; see `units_at`.
        n_packing: rows before the floors.
    """

    value: float
    units: Units
    n_packing: int

    def units_at(self, lam: Floats, weight: float = 1.0) -> Units:
        """Units of sums at prices; a floor's price adds to scores, a weight to everything."""
        bonus = lam[self.n_packing :].max(initial=0.0)
        return Units(
            power_above((self.value + bonus) * weight),
            self.units.use * power_above(weight),
            self.units.typical * power_above(weight) ** 0.5,
            self.units.curvature_bits,
        )


def scale_of(rows: Rows, facts: Survey) -> Scale:
    """Scale of all users."""
    n_users, most = max(1, facts.n_users), rows.limits.max_offers
    value = power_above(facts.largest_value * most + facts.best / n_users)
    is_packing = np.arange(rows.n) < rows.n_packing
    use = np.array([power_above(u) for u in facts.largest * np.where(is_packing, most, 1)])
    mean = np.array([power_above(_TYPICAL * u / n_users) for u in facts.use])
    typical = np.where(facts.use > 0, np.minimum(mean, use), use)
    bits = 58 - int(np.log2(n_users + 1))
    return Scale(value, Units(value, use, typical, min(44, bits - bits % 2)), rows.n_packing)


def where_of(rows: Rows, facts: Survey, seed: int, rate: float) -> Where:
    """Rows and seed, with a size of ties of `rate` of the mean best value."""
    money = facts.best / max(1, facts.n_users) or facts.largest_value
    return Where(rows, seed, rate * money)


def power_above(value: float) -> float:
    """Smallest power of two > value; 1 for 0."""
    return float(2.0 ** np.frexp(value)[1]) if value > 0 else 1.0
