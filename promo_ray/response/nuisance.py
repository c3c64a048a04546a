"""Cross-fitted nuisances: mean outcome, and propensities where they are not known.

The outcome model is one boosted regression on the rows of all arms. Arms that differ little
share all rows for what they have in common, which is nearly everything that a mean outcome
depends on; doubly robust scores stay unbiased however rough it is. Money has heavy tails:
outcomes are winsorized here, and only here, before the boosted fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from promo_ray.errors import DataError
from promo_ray.execution.threads import single_threaded
from promo_ray.numerics.tree_ensemble import TreeEnsemble
from promo_ray.response.boosting import Boosting
from promo_ray.response.trial import Trial, folds_of

Floats = NDArray[np.float64]

OUTCOME_BOOSTING = Boosting()
_TAIL = 0.995  # quantile of the outcomes that are not 0, beyond which they are cut
_LEAST_OVERLAP = 0.05  # of its share in all rows: an arm less likely than that is out of reach
_MAX_LOST = 0.05  # share of rows that may have an arm out of reach
_MIN_PROPENSITY = 0.01  # estimated ones are kept above; known ones are taken as they are


def winsorize(y: Floats) -> Floats:
    """Outcomes cut at the 0.995 quantile of their size, zeros left out of the quantile.

    Zeros are left out so that rare outcomes (1 % buyers) are not cut to 0.
    """
    size = np.abs(y[y != 0])
    if not len(size):
        return y
    limit = float(np.quantile(size, _TAIL))
    return np.clip(y, -limit, limit)


class FoldMean(NamedTuple):
    """Mean outcome learned without one fold.

    Attributes:
        model: boosted regression.
        shifts: `(n_arms,)` float64 mean residual of each arm on the rows of the fit.
    """

    model: TreeEnsemble
    shifts: Floats


class Mean(NamedTuple):
    """Mean outcome over all arms in their shares of the log, cross-fitted.

    Attributes:
        model: boosted regression on all rows.
        out_of_fold: `(n,)` float64 prediction of each row without its fold.
        shifts: `(n, n_arms)` float64 mean residual of each arm under the row's fold model on the
            rows that it was fitted on; 0 for an arm without rows there.
        parts: what each fold was predicted with, in the order of the folds that occur.
    """

    model: TreeEnsemble
    out_of_fold: Floats
    shifts: Floats
    parts: tuple[FoldMean, ...]

    @property
    def of_arms(self) -> Floats:
        """`(n, n_arms)` float64 out-of-fold outcome under each arm."""
        return self.out_of_fold[:, None] + self.shifts

    def without(self, folds: NDArray[np.int64], fold: int) -> Mean:
        """The same of the rows outside a fold; nothing in it predicts from rows of the fold.

        What is known of each row still comes from all other folds, `fold` among them: the
        nuisance of a nuisance, which errors of the second order only pass through.
        """
        part = self.parts[int(np.searchsorted(np.unique(folds), fold))]
        rest = folds != fold
        return Mean(part.model, self.out_of_fold[rest], self.shifts[rest], ())


def cross_fitted_mean(
    x: Floats,
    arm: NDArray[np.int64],
    y: Floats,
    weight: Floats,
    folds: NDArray[np.int64],
    n_arms: int,
    boosting: Boosting = OUTCOME_BOOSTING,
) -> Mean:
    """Boosted mean of the winsorized outcome plus one shift per arm; rows see no own fold.

    Args:
        x: `(n, d)` float64 features.
        arm: `(n,)` int64, 0 = control.
        y: `(n,)` float64 outcome.
        weight: `(n,)` float64 row weights, see `balancing_weights`.
        folds: `(n,)` int64 folds.
        n_arms: arms, control included.
        boosting: size of the regression.
    """
    parts = []
    present = np.unique(folds)
    for fold in present:
        rest = folds != fold
        parts.append(fold_mean(x[rest], arm[rest], y[rest], weight[rest], n_arms, boosting))
    whole = boosting.fit(x, winsorize(y), weight)
    return mean_of_folds(x, np.searchsorted(present, folds), parts, whole)


def mean_of_trial(trial: Trial, boosting: Boosting = OUTCOME_BOOSTING) -> Mean:
    """`cross_fitted_mean` of a trial, its arms balanced."""
    weight, _ = balancing_weights(trial)
    return cross_fitted_mean(
        trial.x, trial.arm, trial.outcome, weight, trial.folds, trial.n_arms, boosting
    )


def fold_mean(
    x: Floats,
    arm: NDArray[np.int64],
    y: Floats,
    weight: Floats,
    n_arms: int,
    boosting: Boosting = OUTCOME_BOOSTING,
) -> FoldMean:
    """Boosted mean on the rows outside a fold, and the shifts of the arms around it there."""
    model = boosting.fit(x, winsorize(y), weight)
    residual = y - model.predict(x)
    count = np.bincount(arm, weights=weight, minlength=n_arms)
    total = np.bincount(arm, weights=weight * residual, minlength=n_arms)
    return FoldMean(model, np.where(count > 0, total / np.where(count > 0, count, 1.0), 0.0))


def mean_of_folds(
    x: Floats, folds: NDArray[np.int64], parts: Sequence[FoldMean], whole: TreeEnsemble
) -> Mean:
    """`Mean` of rows from the models of their folds."""
    mean, shifts = np.empty(len(x)), np.zeros((len(x), len(parts[0].shifts)))
    for fold, part in enumerate(parts):
        own = folds == fold
        mean[own] = part.model.predict(x[own])
        shifts[own] = part.shifts
    return Mean(whole, mean, shifts, tuple(parts))


def balancing_weights(trial: Trial) -> tuple[Floats, Floats]:
    """Weights under which the arm is independent of the features, and the arms' shares.

    A row weighs its own weight x share of its arm / propensity (stabilized inverse propensity;
    Robins, Hernan and Brumback 2000), so that only the propensity of the arm taken is needed.

    Returns:
        `(n,)` and `(n_arms,)` float64.
    """
    total = max(float(trial.weight.sum()), np.finfo(np.float64).tiny)
    shares = np.bincount(trial.arm, trial.weight, minlength=trial.n_arms).astype(float) / total
    return trial.weight * shares[trial.arm] / trial.propensity, shares


def arm_outcomes(
    x: Floats,
    arm: NDArray[np.int64],
    outcome: Floats,
    groups: NDArray[np.int64],
    n_arms: int,
    *,
    n_folds: int = 5,
    seed: int = 0,
) -> Floats:
    """Mean outcome under each arm, each row predicted by models that did not see its group.

    Args:
        x: `(n, d)` float64 features; d may be 0.
        arm: `(n,)` int64, 0 = control.
        outcome: `(n,)` float64.
        groups: `(n,)` group of each row.
        n_arms: arms, control included.
        n_folds: folds, >= 2.
        seed: seed of the folds.

    Returns:
        `(n, n_arms)` float64 in outcome units: one boosted mean plus a shift per arm.
    """
    folds = folds_of(groups, len(outcome), n_folds, seed)
    return cross_fitted_mean(x, arm, outcome, np.ones(len(outcome)), folds, n_arms).of_arms


def estimate_propensity(
    x: Floats, arm: NDArray[np.int64], folds: NDArray[np.int64], n_arms: int
) -> Floats:
    """Probability of the arm that each row got, by cross-fitted multinomial logistic regression.

    Args:
        x: `(n, d)` float64 features.
        arm: `(n,)` int64.
        folds: `(n,)` int64 folds.
        n_arms: arms, control included.

    Returns:
        `(n,)` float64 in [0.01, 1].

    Raises:
        DataError: no overlap: in over 5 % of the rows some arm is under 1/20 as likely as overall,
            so that its effect there would be invented.
    """
    spread = x.std(axis=0)
    scaled = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    found = np.empty((len(arm), n_arms))
    for fold in np.unique(folds):
        own = folds == fold
        shares = np.bincount(arm[~own], minlength=n_arms) / max(1, int((~own).sum()))
        found[own] = shares
        if not x.shape[1] or np.count_nonzero(shares) < 2:
            continue
        model = LogisticRegression(C=0.1, max_iter=200)
        with single_threaded():
            model.fit(scaled[~own], arm[~own])
            probs = model.predict_proba(scaled[own])
        found[own] = 0.0
        found[np.ix_(own, model.classes_)] = probs
    _check_overlap(found, arm)
    return np.clip(found[np.arange(len(arm)), arm], _MIN_PROPENSITY, 1.0)


def _check_overlap(probs: Floats, arm: NDArray[np.int64]) -> None:
    shares = np.bincount(arm, minlength=probs.shape[1]) / max(1, len(arm))
    is_out = probs < _LEAST_OVERLAP * shares
    lost = is_out.mean(axis=0) if len(arm) else np.zeros(len(shares))
    if is_out.any(axis=1).mean() > _MAX_LOST:
        worst = int(lost.argmax())
        raise DataError(
            f"no overlap: arm {worst} has next to no chance in {lost[worst]:.0%} of the rows; "
            "leave out the rows that could not get every arm",
            where="propensity",
        )
