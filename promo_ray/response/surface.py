"""Response surface: gross effect and discount of any offer, tried or not, from its terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.numerics.tree_ensemble import TreeEnsemble
from promo_ray.response.boosting import Boosting
from promo_ray.response.nuisance import Mean, balancing_weights
from promo_ray.response.offer_features import (
    IS_MONOTONE,
    MECHANICS,
    N_BASIS,
    N_FEATURES,
    PairFeatures,
    pair_features,
)
from promo_ray.response.relative import Scale
from promo_ray.response.stacking import ridge, stack_weights
from promo_ray.response.trial import Trial

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_EFFECT_BOOSTING = Boosting(max_iter=200)
_COST_BOOSTING = Boosting(max_iter=150, min_samples_leaf=50)
_PULL = 1  # column of the basis that must not fall with depth


class SurfaceEffects(NamedTuple):
    """Predictions for `n` users and `m` offers.

    Attributes:
        gross: `(n, m)` float64 effect before discount, outcome units.
        discount: `(n, m)` float64 expected discount, currency units, >= 0.
    """

    gross: Floats
    discount: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class ResponseSurface:
    """Gross effect and discount as functions of user and offer terms, each monotone in depth.

    Gross effect = w1 * baseline * (varying coefficients . basis of the offer) + w2 * (trees of
    user and offer minus trees of user and no offer). The first part is a ridge R-learner (Nie and
    Wager 2021; structured treatments: Kaddour et al. 2021) whose coefficient of the pull of the
    saving is kept >= 0 for every user; the trees are grown under a monotone constraint; weights
    are >= 0. So more depth never lowers the gross effect or the discount. Only their difference,
    the effect on margin, has an inner optimum.

    Attributes:
        scale: baseline and standardized features.
        coef: `((d + 2) * N_BASIS,)` float64 varying coefficients, shares of the baseline.
        trees: boosted residual outcome of user and offer, outcome units.
        weights: `(2,)` float64 weights of the two parts.
        cost: boosted share of the nominal discount that is given; None if offers cost nothing.
        cost_factor: `(len(MECHANICS),)` float64 calibration of the discount.
        typical_basket: stands in for unknown baskets, currency units.
    """

    scale: Scale
    coef: Floats
    trees: TreeEnsemble
    weights: Floats
    cost: TreeEnsemble | None
    cost_factor: Floats
    typical_basket: float

    def effects(self, x: Floats, basket: Floats, offers: pa.Table) -> SurfaceEffects:
        """Predictions for users and offers.

        Args:
            x: `(n, d)` float64 features as in the fit.
            basket: `(n,)` float64 median order value, currency units; NaN = unknown.
            offers: table `OFFER_TERMS`, m rows.
        """
        pairs = pair_features(basket, offers, self.typical_basket)
        baseline = self.scale.baseline(x)
        z = self.scale.standardize(x, baseline)
        gross = self.weights[0] * _varying(self.coef, z, pairs) * baseline[:, None]
        if self.weights[1] > 0:
            gross += self.weights[1] * _tree_effects(self.trees, x, baseline, pairs)
        return SurfaceEffects(gross, self._discount(x, baseline, pairs))

    def _discount(self, x: Floats, baseline: Floats, pairs: PairFeatures) -> Floats:
        found = np.zeros_like(pairs.nominal)
        if self.cost is None:
            return found
        factor = np.where(pairs.mechanic.any(axis=1), pairs.mechanic @ self.cost_factor, 0.0)
        for j in range(found.shape[1]):
            share = self.cost.predict(np.column_stack([x, baseline, pairs.of_offer(j)]))
            found[:, j] = factor[j] * np.maximum(share, 0.0) * pairs.nominal[:, j]
        return found

    def to_arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Arrays for an artefact."""
        arrays = {
            **self.scale.to_arrays(f"{prefix}scale."),
            **self.trees.to_arrays(f"{prefix}trees."),
            f"{prefix}coef": self.coef,
            f"{prefix}weights": self.weights,
            f"{prefix}cost_factor": self.cost_factor,
            f"{prefix}typical_basket": np.array([self.typical_basket]),
        }
        return arrays if self.cost is None else arrays | self.cost.to_arrays(f"{prefix}cost.")

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str) -> ResponseSurface:
        """The surface that `to_arrays` wrote; predicts the same bits."""
        has_cost = f"{prefix}cost.value" in arrays
        return cls(
            scale=Scale.from_arrays(arrays, f"{prefix}scale."),
            coef=arrays[f"{prefix}coef"],
            trees=TreeEnsemble.from_arrays(arrays, f"{prefix}trees."),
            weights=arrays[f"{prefix}weights"],
            cost=TreeEnsemble.from_arrays(arrays, f"{prefix}cost.") if has_cost else None,
            cost_factor=arrays[f"{prefix}cost_factor"],
            typical_basket=float(arrays[f"{prefix}typical_basket"][0]),
        )


class FittedSurface(NamedTuple):
    """A surface, and its gross effects for each row without its fold, `(n, m)` float64."""

    surface: ResponseSurface
    out_of_fold: Floats


def fit_surface(trial: Trial, basket: Floats, offers: pa.Table, mean: Mean) -> FittedSurface:
    """Surface from a trial of several offers.

    Args:
        trial: rows; `outcome` is before discount, `cost` the discount given.
        basket: `(n,)` float64 median order value, currency units; NaN = unknown.
        offers: table `OFFER_TERMS` of arms 1, 2, ...
        mean: mean outcome over all arms, cross-fitted on the folds of the trial.
    """
    known = basket[np.nan_to_num(basket) > 0]
    typical = float(np.median(known)) if len(known) else 1.0
    pairs = pair_features(basket, offers, typical)
    balance, shares = balancing_weights(trial)
    scale = Scale.fit(trial.x, mean.model, mean.out_of_fold)
    baseline = scale.of_mean(mean.out_of_fold)
    rows = _Rows(trial, pairs, balance, shares, baseline, trial.outcome - mean.out_of_fold)
    coef, linear = _fit_varying(rows, scale.standardize(trial.x, baseline))
    trees, boosted = _fit_trees(rows)
    weight = balance * baseline.mean() / baseline
    components = np.column_stack([_contrast(rows, part) for part in (linear, boosted)])
    weights = stack_weights(components, rows.residual, weight)
    cost, factor = _fit_cost(rows)
    surface = ResponseSurface(
        scale=scale,
        coef=coef,
        trees=trees,
        weights=weights,
        cost=cost,
        cost_factor=factor,
        typical_basket=typical,
    )
    return FittedSurface(surface, weights[0] * linear + weights[1] * boosted)


class _Rows(NamedTuple):
    trial: Trial
    pairs: PairFeatures
    balance: Floats  # (n,) weights that make arms and features independent
    shares: Floats  # (n_arms,)
    baseline: Floats  # (n,) out of fold
    residual: Floats  # (n,) outcome less its out-of-fold mean over all arms


def _contrast(rows: _Rows, effects: Floats) -> Floats:
    """`(n,)` effect of the row's arm less the mean over arms: what the residual should be."""
    arm = rows.trial.arm
    own = np.where(arm > 0, effects[np.arange(len(arm)), np.maximum(arm - 1, 0)], 0.0)
    return np.asarray(own - effects @ rows.shares[1:])


def _varying(coef: Floats, z: Floats, pairs: PairFeatures) -> Floats:
    """`(n, m)` effect as a share of the baseline; the slope on pull is cut at 0."""
    own = z @ coef.reshape(z.shape[1], N_BASIS)
    own[:, _PULL] = np.maximum(own[:, _PULL], 0.0)
    return np.asarray(np.einsum("nb,nmb->nm", own, pairs.basis()))


def _fit_varying(rows: _Rows, z: Floats) -> tuple[Floats, Floats]:
    trial, basis = rows.trial, rows.pairs.basis()
    n, p = z.shape
    at = np.arange(n), np.maximum(trial.arm - 1, 0)
    own = np.where((trial.arm > 0)[:, None], basis[at], 0.0)
    centered = own - np.einsum("m,nmb->nb", rows.shares[1:], basis)
    design = (z[:, :, None] * centered[:, None, :]).reshape(n, -1) * rows.baseline[:, None]
    weight = rows.balance * rows.baseline.mean() / rows.baseline
    is_shrunk = np.repeat(np.arange(p) > 0, N_BASIS)
    found = ridge(design, rows.residual, weight, trial.folds, trial.n_folds, is_shrunk)
    effects = np.empty((n, basis.shape[1]))
    for fold in range(trial.n_folds):
        inside = trial.folds == fold
        pairs = rows.pairs._replace(
            saving=rows.pairs.saving[inside], reach=rows.pairs.reach[inside]
        )
        effects[inside] = _varying(found.fold_coefs[fold], z[inside], pairs)
    return found.coef, effects * rows.baseline[:, None]


def _fit_trees(rows: _Rows) -> tuple[TreeEnsemble, Floats]:
    trial = rows.trial
    design = np.column_stack([trial.x, rows.baseline, rows.pairs.of_rows(trial.arm - 1)])
    monotone = [0] * (trial.x.shape[1] + 1) + list(IS_MONOTONE)
    effects = np.empty((len(trial.arm), len(rows.pairs.depth)))
    for fold in range(trial.n_folds):
        inside = trial.folds == fold
        rest = ~inside
        trees = _EFFECT_BOOSTING.fit(
            design[rest], rows.residual[rest], rows.balance[rest], monotone
        )
        pairs = rows.pairs._replace(
            saving=rows.pairs.saving[inside], reach=rows.pairs.reach[inside]
        )
        effects[inside] = _tree_effects(trees, trial.x[inside], rows.baseline[inside], pairs)
    return _EFFECT_BOOSTING.fit(design, rows.residual, rows.balance, monotone), effects


def _tree_effects(trees: TreeEnsemble, x: Floats, baseline: Floats, pairs: PairFeatures) -> Floats:
    """`(n, m)` prediction with each offer less that with none, outcome units."""
    user = np.column_stack([x, baseline])
    none = trees.predict(np.column_stack([user, np.zeros((len(x), N_FEATURES))]))
    effects = np.empty((len(x), len(pairs.depth)))
    for j in range(effects.shape[1]):
        effects[:, j] = trees.predict(np.column_stack([user, pairs.of_offer(j)])) - none
    return effects


def _fit_cost(rows: _Rows) -> tuple[TreeEnsemble | None, Floats]:
    """Boosted share of the nominal discount; factors bring each mechanic to its observed total."""
    trial, pairs = rows.trial, rows.pairs
    factor = np.ones(len(MECHANICS))
    offer = np.maximum(trial.arm - 1, 0)
    nominal = pairs.nominal[np.arange(len(offer)), offer]
    is_used = (trial.arm > 0) & (nominal > 0)
    if not is_used.any() or not trial.cost.any():
        return None, factor
    design = np.column_stack([trial.x, rows.baseline, pairs.of_rows(trial.arm - 1)])[is_used]
    monotone = [0] * (trial.x.shape[1] + 1) + list(IS_MONOTONE)
    nominal, weight = nominal[is_used], rows.balance[is_used]
    share = trial.cost[is_used] / nominal
    heavy = weight * nominal / nominal.mean()
    trees = _COST_BOOSTING.fit(design, share, heavy, monotone)
    expected = np.maximum(trees.predict(design), 0.0) * nominal
    mechanic = pairs.mechanic[offer[is_used]]
    found, total = (weight * trial.cost[is_used]) @ mechanic, (weight * expected) @ mechanic
    return trees, np.where(total > 0, found / np.where(total > 0, total, 1.0), factor)
