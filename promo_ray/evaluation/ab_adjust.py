"""Variance cut by what was known before the treatment: CUPED and CUPAC."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.errors import DataError
from promo_ray.response.boosting import Boosting
from promo_ray.response.inputs import arms, finite_matrix, finite_vector, group_codes
from promo_ray.response.trial import folds_of

Floats = NDArray[np.float64]


class Cuped(NamedTuple):
    """Outcomes without what the covariates explain.

    Attributes:
        adjusted: `(n,)` float64, outcome units; overall mean as before.
        theta: `(d,)` float64 coefficients, pooled within arms.
        variance_cut: share of the variance within arms that is gone, measured on these rows and
            corrected for the coefficients fitted; below 0 if the covariates are noise.
    """

    adjusted: Floats
    theta: Floats
    variance_cut: float


def cuped(outcome: ArrayLike, covariate: ArrayLike, treatment: ArrayLike | None = None) -> Cuped:
    """Outcomes minus their regression on covariates of the time before (Deng et al. 2013).

    Args:
        outcome: `(n,)` one row per user.
        covariate: `(n,)` or `(n, d)`, not affected by the treatment.
        treatment: `(n,)` arm of each user; given, the slope is fitted within arms, so that an
            effect does not pass for scatter.

    Raises:
        DataError: bad shape or value, the argument named; fewer than d + n_arms + 2 users.
    """
    y = finite_vector(outcome, "outcome")
    raw = np.asarray(covariate)
    x = finite_matrix(raw[:, None] if raw.ndim == 1 else raw, "covariate", len(y))
    n, d = x.shape
    arm = np.zeros(n, dtype=np.int64)
    if treatment is not None:
        arm = arms(treatment, "treatment", n)
    n_arms = int(arm.max(initial=0)) + 1
    if n < d + n_arms + 2:
        raise DataError(f"must have at least {d + n_arms + 2} rows; got {n}", where="outcome")
    y_within, x_within = _centered(y[:, None], arm)[:, 0], _centered(x, arm)
    theta: Floats = np.asarray(np.linalg.lstsq(x_within, y_within, rcond=1e-12)[0], np.float64)
    rest = y_within - x_within @ theta
    spread = float(y_within @ y_within)
    cut = 0.0
    if spread > 0:
        cut = 1 - float(rest @ rest) / spread * (n - n_arms) / (n - n_arms - d)
    return Cuped(np.asarray(y - (x - x.mean(axis=0)) @ theta), theta, cut)


def cupac(
    outcome: ArrayLike,
    features: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_folds: int = 5,
    seed: int = 0,
    boosting: Boosting | None = None,
) -> Floats:
    """Prediction of the outcome from features of the time before, to hand on as a covariate.

    Boosted trees, cross-fitted by user, so that no row's own outcome enters its covariate; each
    fold is centered, or the folds' levels would pass for scatter. Source: Tang et al. 2020.

    Args:
        outcome: `(n,)` outcome of each row.
        features: `(n, d)` not affected by the treatment; the treatment is not among them.
        groups: `(n,)` user of each row; all rows of a user lie in one fold.
        n_folds: folds, >= 2.
        seed: seed of the folds.
        boosting: size of the regression; None = the default.

    Returns:
        `(n,)` float64, outcome units, mean 0 in every fold.

    Raises:
        ConfigError: fewer than 2 folds.
        DataError: bad shape or value, the argument named; fewer users than folds.
    """
    y = finite_vector(outcome, "outcome")
    x = finite_matrix(features, "features", len(y))
    n_users = int(group_codes(groups, len(y)).max(initial=-1)) + 1
    if n_users < n_folds:
        raise DataError(f"must hold {n_folds} users at least; got {n_users}", where="groups")
    folds = folds_of(groups, len(y), n_folds, seed)
    model = boosting or Boosting()
    found = np.zeros(len(y))
    for fold in np.unique(folds):
        own = folds == fold
        if own.all():
            continue
        found[own] = model.fit(x[~own], y[~own]).predict(x[own])
        found[own] -= found[own].mean()
    return found


def _centered(values: Floats, arm: NDArray[np.int64]) -> Floats:
    n = np.maximum(1, np.bincount(arm))
    mean = np.column_stack([np.bincount(arm, c) for c in values.T]) / n[:, None]
    return np.asarray(values - mean[arm])
