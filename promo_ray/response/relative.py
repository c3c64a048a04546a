"""The scale that effects are learned on: relative to what a user is expected to bring anyway.

Offers move a user's purchases by a factor, and outcomes scatter in proportion to their mean
(counts, sums of orders). So learners fit effect / baseline with rows weighted by 1 / baseline,
the weighting of a Poisson-like mean-variance law (McCullagh and Nelder 1989, section 9), and
multiply by the baseline at the end. Without it a few heavy buyers drown all the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promo_ray.numerics.tree_ensemble import TreeEnsemble

Floats = NDArray[np.float64]

_FLOOR = 0.1  # smallest baseline over the mean one
_MAX_Z = 3.0  # standardized features are cut here: lines must not run away


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale:
    """Baseline and standardized features.

    Attributes:
        mean: regression of the outcome over all arms.
        floor: smallest baseline; 0 if the mean outcome is not positive, then the scale is 1.
        center: `(d + 1,)` float64 means of the features and of the log baseline.
        spread: `(d + 1,)` float64 their standard deviations, 1 where there is none.
    """

    mean: TreeEnsemble
    floor: float
    center: Floats
    spread: Floats

    @classmethod
    def fit(cls, x: Floats, mean: TreeEnsemble, baseline: Floats) -> Scale:
        """Scale from features `(n, d)` and the out-of-fold mean outcome `(n,)`."""
        level = float(baseline.mean()) if len(baseline) else 0.0
        floor = max(_FLOOR * level, 0.0)
        own = _baseline(baseline, floor)
        columns = np.column_stack([x, np.log(own)])
        spread = columns.std(axis=0)
        return cls(
            mean=mean,
            floor=floor,
            center=columns.mean(axis=0),
            spread=np.where(spread > 1e-12, spread, 1.0),
        )

    def baseline(self, x: Floats) -> Floats:
        """`(n,)` float64 > 0 expected outcome, outcome units; 1 if there is no such scale."""
        return _baseline(self.mean.predict(x), self.floor)

    def of_mean(self, mean: Floats) -> Floats:
        """Baseline for a mean outcome `(n,)` predicted elsewhere, out of fold say."""
        return _baseline(mean, self.floor)

    def standardize(self, x: Floats, baseline: Floats) -> Floats:
        """`(n, d + 2)` float64: 1, the features and the log baseline, standardized and cut."""
        columns = np.column_stack([x, np.log(baseline)])
        z = np.clip((columns - self.center) / self.spread, -_MAX_Z, _MAX_Z)
        return np.column_stack([np.ones(len(x)), z])

    def to_arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Arrays for an artefact."""
        return {
            **self.mean.to_arrays(f"{prefix}mean."),
            f"{prefix}floor": np.array([self.floor]),
            f"{prefix}center": self.center,
            f"{prefix}spread": self.spread,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str) -> Scale:
        """The scale that `to_arrays` wrote."""
        return cls(
            mean=TreeEnsemble.from_arrays(arrays, f"{prefix}mean."),
            floor=float(arrays[f"{prefix}floor"][0]),
            center=arrays[f"{prefix}center"],
            spread=arrays[f"{prefix}spread"],
        )


def _baseline(mean: Floats, floor: float) -> Floats:
    return np.maximum(mean, floor) if floor > 0 else np.ones(len(mean))
