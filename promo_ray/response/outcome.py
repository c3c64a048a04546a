"""Expected outcome by boosting, in the form that the outcome has: 0/1, rare money, or a number."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from promo_ray.numerics.tree_ensemble import TreeEnsemble
from promo_ray.response.boosting import Boosting
from promo_ray.response.nuisance import winsorize

Floats = NDArray[np.float64]

_ZERO_INFLATED = 0.5  # share of zeros from which buying and its size are two models
_MIN_SIZES = 200  # outcomes above 0 below which their size is their mean


class Outcome(NamedTuple):
    """Expected outcome: trees, or chance x size.

    Attributes:
        trees: mean; log-odds of an outcome above 0 if `size` is not None.
        size: mean of the outcomes above 0, None for plain numbers; 1 everywhere for 0/1.
    """

    trees: TreeEnsemble
    size: TreeEnsemble | float | None

    def predict(self, x: Floats) -> Floats:
        """`(n,)` float64 expected outcome of features `(n, d)`."""
        raw = self.trees.predict(x)
        if self.size is None:
            return raw
        size = self.size if isinstance(self.size, float) else np.maximum(self.size.predict(x), 0)
        return np.asarray(expit(raw) * size)


def fit_outcome(x: Floats, y: Floats, weight: Floats, boosting: Boosting) -> Outcome:
    """Boosted mean; logistic for 0/1, chance x size for outcomes >= 0 that are mostly 0.

    Sizes and plain numbers are winsorized first; a two-part mean follows Duan et al. 1983.

    Args:
        x: `(n, d)` float64.
        y: `(n,)` float64.
        weight: `(n,)` float64 > 0.
        boosting: size of the ensembles.
    """
    is_above = y > 0
    is_flag = bool(np.isin(y, (0.0, 1.0)).all())
    is_rare = len(y) > 0 and y.min() >= 0 and 1.0 - is_above.mean() >= _ZERO_INFLATED
    if not is_flag and not is_rare:
        return Outcome(boosting.fit(x, winsorize(y), weight), None)
    chance = boosting.fit(x, is_above.astype(np.float64), weight, is_binary=True)
    if is_flag:
        return Outcome(chance, 1.0)
    cut, own = winsorize(y)[is_above], weight[is_above]
    if len(cut) < _MIN_SIZES:
        return Outcome(chance, float(np.average(cut, weights=own)) if len(cut) else 0.0)
    return Outcome(chance, boosting.fit(x[is_above], cut, own))
