"""Response model: what a user brings whatever is sent. A yardstick for targeting, not a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from promo_ray.errors import DataError
from promo_ray.numerics.tree_ensemble import TreeEnsemble
from promo_ray.response.inputs import finite_matrix, finite_vector
from promo_ray.response.nuisance import cross_fitted_mean
from promo_ray.response.trial import folds_of


class ResponseQuality(NamedTuple):
    """Quality of a response model on rows whose users it did not see.

    Attributes:
        mae: mean absolute error, outcome units.
        r2: share of the variance explained.
        auc: chance that a row with an outcome above 0 scores above one without; NaN if all rows
            are alike.
    """

    mae: float
    r2: float
    auc: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ResponseBaseline:
    """Boosted mean outcome that ignores what was sent.

    Attributes:
        model: regression on all rows.
        out_of_fold: `(n,)` float64 prediction of each row of the fit without its fold.
        quality: of `out_of_fold`.
    """

    model: TreeEnsemble
    out_of_fold: NDArray[np.float64]
    quality: ResponseQuality

    @classmethod
    def fit(
        cls,
        x: ArrayLike,
        outcome: ArrayLike,
        groups: ArrayLike | None = None,
        *,
        n_folds: int = 5,
        seed: int = 0,
    ) -> ResponseBaseline:
        """Learn the mean outcome.

        Args:
            x: `(n, d)` finite features.
            outcome: `(n,)` outcome, 0/1 or money.
            groups: `(n,)` user of each row; a user's rows stay in one fold.
            n_folds: folds of the cross-validation.
            seed: seed of the folds.

        Raises:
            DataError: bad shape or value, the argument named.
        """
        features = finite_matrix(x, "x")
        y = finite_vector(outcome, "outcome", len(features))
        if len(y) < 2:
            raise DataError(f"must have at least 2 rows; got {len(y)}", where="x")
        folds = folds_of(groups, len(y), n_folds, seed)
        no_arm = np.zeros(len(y), dtype=np.int64)
        mean = cross_fitted_mean(features, no_arm, y, np.ones(len(y)), folds, 1)
        return cls(
            model=mean.model, out_of_fold=mean.out_of_fold, quality=_quality(y, mean.out_of_fold)
        )

    def predict(self, x: ArrayLike) -> NDArray[np.float64]:
        """`(n,)` float64 expected outcome of features `(n, d)`."""
        return self.model.predict(finite_matrix(x, "x"))


def _quality(y: NDArray[np.float64], predicted: NDArray[np.float64]) -> ResponseQuality:
    error, spread = y - predicted, float(y.var())
    positive = y > 0
    n_positive = int(positive.sum())
    n_other = len(y) - n_positive
    auc = float("nan")
    if n_positive and n_other:  # Mann and Whitney 1947
        ranks = float(rankdata(predicted)[positive].sum())
        auc = (ranks - n_positive * (n_positive + 1) / 2) / (n_positive * n_other)
    r2 = 1.0 - float((error**2).mean()) / spread if spread > 0 else 0.0
    return ResponseQuality(float(np.abs(error).mean()), r2, auc)
