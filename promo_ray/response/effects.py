"""What a learner hands over: the effect of each arm against control for any features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from promo_ray.response.trial import Trial

Floats = NDArray[np.float64]


class Effects(Protocol):
    """Fitted effects of `m` arms besides control."""

    def predict(self, x: Floats) -> Floats:
        """`(n, m)` float64 effects in outcome units for features `(n, d)`."""
        ...


class Learner(Protocol):
    """A registered method of the family `response`."""

    def learn(self, trial: Trial) -> Effects:
        """Effects of all arms; the folds of the trial serve what is cross-fitted within."""
        ...


class Regressor(Protocol):
    """Anything that predicts one number per row."""

    def predict(self, x: Floats) -> Floats:
        """`(n,)` float64 for features `(n, d)`."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnEffects:
    """One regression of the effect per arm.

    Attributes:
        of_arms: m regressions, arms 1 .. m.
    """

    of_arms: tuple[Regressor, ...]

    def predict(self, x: Floats) -> Floats:
        """`(n, m)` float64 effects in outcome units."""
        return np.column_stack([own.predict(x) for own in self.of_arms])


@dataclass(frozen=True, kw_only=True, eq=False)
class Contrast:
    """Difference of two expected outcomes.

    Attributes:
        treated: expected outcome under the arm.
        control: expected outcome under control.
    """

    treated: Regressor
    control: Regressor

    def predict(self, x: Floats) -> Floats:
        """`(n,)` float64 effect in outcome units."""
        return self.treated.predict(x) - self.control.predict(x)


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """A linear regression on standardized, cut features.

    Attributes:
        center: `(d,)` float64 means.
        spread: `(d,)` float64 standard deviations.
        coef: `(d + 1,)` float64, the constant first.
    """

    center: Floats
    spread: Floats
    coef: Floats

    def predict(self, x: Floats) -> Floats:
        """`(n,)` float64."""
        return np.asarray(standardized(x, self.center, self.spread) @ self.coef)


def standardized(x: Floats, center: Floats, spread: Floats) -> Floats:
    """`(n, d + 1)` float64: 1 and the features in standard deviations, cut at 3."""
    return np.column_stack([np.ones(len(x)), np.clip((x - center) / spread, -3.0, 3.0)])


def spread_of(x: Floats) -> Floats:
    """`(d,)` float64 standard deviations, 1 where there is none."""
    found = x.std(axis=0)
    return np.where(found > 1e-12, found, 1.0)
