"""Response surface: gross effect and discount of any offer, tried or not, from its terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.numerics.tree_ensemble import TreeEnsemble
from promo_ray.response.boosting import Boosting
from promo_ray.response.nuisance import Mean, balancing_weights
from promo_ray.response.offer_features import (
    MECHANICS,
    PairFeatures,
    TermScale,
    pair_features,
)
from promo_ray.response.relative import Scale
from promo_ray.response.stacking import Ridge, ridge, ridge_at, stack_weights
from promo_ray.response.trial import Trial

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

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
        coef: `((d + 2) * n_basis,)` float64 varying coefficients, shares of the baseline.
        trees: boosted residual outcome of user and offer, outcome units.
        weights: `(2,)` float64 weights of the two parts.
        cost: boosted share of the nominal discount that is given; None if offers cost nothing.
        cost_factor: `(len(MECHANICS),)` float64 calibration of the discount.
        terms: what the terms of offers are measured by.
    """

    scale: Scale
    coef: Floats
    trees: TreeEnsemble
    weights: Floats
    cost: TreeEnsemble | None
    cost_factor: Floats
    terms: TermScale

    def effects(self, x: Floats, basket: Floats, offers: pa.Table) -> SurfaceEffects:
        """Predictions for users and offers.

        Args:
            x: `(n, d)` float64 features as in the fit.
            basket: `(n,)` float64 median order value, currency units; NaN = unknown.
            offers: table `OFFER_TERMS`, m rows; `channel` and `window_days` count if the fit met
                at least two of them.
        """
        pairs = pair_features(x, basket, offers, self.terms)
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
            f"{prefix}typical_basket": np.array([self.terms.typical_basket]),
        }
        if self.terms.n_extra:
            tried = {**self.terms._asdict(), "scopes": dict(self.terms.scopes)}
            arrays[f"{prefix}terms"] = np.frombuffer(orjson.dumps(tried), np.uint8)
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
            terms=_terms_from(arrays, prefix),
        )


def _terms_from(arrays: Mapping[str, NDArray[Any]], prefix: str) -> TermScale:
    tried: dict[str, Any] = {}
    if f"{prefix}terms" in arrays:
        tried = orjson.loads(arrays[f"{prefix}terms"].tobytes())
        tried["channels"] = tuple(tried["channels"])
    return TermScale(**tried | {"typical_basket": float(arrays[f"{prefix}typical_basket"][0])})


class FittedSurface(NamedTuple):
    """A surface and what it was fitted on.

    Attributes:
        surface: fitted on all rows.
        out_of_fold: `(n, m)` float64 gross effects for each row without its fold.
        ratio: penalty of the varying coefficients, see `Ridge`.
        rows: rows of the fit, for `refit`.
    """

    surface: ResponseSurface
    out_of_fold: Floats
    ratio: float
    rows: SurfaceRows

    def refit(self, which: NDArray[np.bool_]) -> ResponseSurface:
        """The surface again on the rows where `which` `(n,)` bool holds.

        Baseline, penalty and weights of the parts stay, so that what differs is sampling error.
        """
        rows, whole = self.rows.rows(which), self.surface
        z = whole.scale.standardize(rows.trial.x, rows.baseline)
        cost, factor = _fit_cost(rows)
        return replace(
            whole,
            coef=ridge_at(*_regression(rows, z), self.ratio),
            trees=_boost(rows) if whole.weights[1] > 0 else whole.trees,
            cost=cost,
            cost_factor=factor,
        )


def fit_surface(
    trial: Trial,
    basket: Floats,
    offers: pa.Table,
    mean: Mean,
    scopes: Mapping[str, int] | None = None,
) -> FittedSurface:
    """Surface from a trial of several offers.

    Args:
        trial: rows; `outcome` is before discount, `cost` the discount given.
        basket: `(n,)` float64 median order value, currency units; NaN = unknown.
        offers: table `OFFER_TERMS` of arms 1, 2, ...; it may also have `channel` and
            `window_days`.
        mean: mean outcome over all arms, cross-fitted on the folds of the trial.
        scopes: column of the features, by scope, that holds the share of a user's own spend that
            falls into the scope; without it the same share is taken for everybody.
    """
    terms = TermScale.of(basket, offers, scopes)
    pairs = pair_features(trial.x, basket, offers, terms)
    balance, shares = balancing_weights(trial)
    scale = Scale.fit(trial.x, mean.model, mean.out_of_fold)
    baseline = scale.of_mean(mean.out_of_fold)
    residual = trial.outcome - mean.out_of_fold
    rows = SurfaceRows(trial, pairs, terms, balance, shares, baseline, residual)
    found, linear = _fit_varying(rows, scale.standardize(trial.x, baseline))
    trees, boosted = _fit_trees(rows)
    components = np.column_stack([_contrast(rows, part) for part in (linear, boosted)])
    weights = stack_weights(components, residual, rows.weight)
    cost, factor = _fit_cost(rows)
    surface = ResponseSurface(
        scale=scale,
        coef=found.coef,
        trees=trees,
        weights=weights,
        cost=cost,
        cost_factor=factor,
        terms=terms,
    )
    out_of_fold = weights[0] * linear + weights[1] * boosted
    return FittedSurface(surface, out_of_fold, found.ratio, rows)


class SurfaceRows(NamedTuple):
    """Rows that a surface is fitted on."""

    trial: Trial
    pairs: PairFeatures
    terms: TermScale
    balance: Floats  # (n,) weights that make arms and features independent
    shares: Floats  # (n_arms,)
    baseline: Floats  # (n,) out of fold
    residual: Floats  # (n,) outcome less its out-of-fold mean over all arms

    @property
    def weight(self) -> Floats:
        """`(n,)` float64 weight of the squared error of effects."""
        return np.asarray(self.balance * self.baseline.mean() / self.baseline)

    def rows(self, which: NDArray[np.bool_]) -> SurfaceRows:
        """The rows where `which` `(n,)` bool holds."""
        return self._replace(
            trial=self.trial.rows(which),
            pairs=self.pairs.of_users(which),
            balance=self.balance[which],
            baseline=self.baseline[which],
            residual=self.residual[which],
        )


def _contrast(rows: SurfaceRows, effects: Floats) -> Floats:
    """`(n,)` effect of the row's arm less the mean over arms: what the residual should be."""
    arm = rows.trial.arm
    own = np.where(arm > 0, effects[np.arange(len(arm)), np.maximum(arm - 1, 0)], 0.0)
    return np.asarray(own - effects @ rows.shares[1:])


def _varying(coef: Floats, z: Floats, pairs: PairFeatures) -> Floats:
    """`(n, m)` effect as a share of the baseline; the slope on pull is cut at 0."""
    own = z @ coef.reshape(z.shape[1], -1)
    own[:, _PULL] = np.maximum(own[:, _PULL], 0.0)
    return np.asarray(np.einsum("nb,nmb->nm", own, pairs.basis()))


def _regression(rows: SurfaceRows, z: Floats) -> tuple[Floats, Floats, Floats, Bools]:
    """Design, target, weights and what is shrunk of the varying coefficients."""
    arm, basis = rows.trial.arm, rows.pairs.basis()
    n, p = z.shape
    at = np.arange(n), np.maximum(arm - 1, 0)
    own = np.where((arm > 0)[:, None], basis[at], 0.0)
    centered = own - np.einsum("m,nmb->nb", rows.shares[1:], basis)
    design = (z[:, :, None] * centered[:, None, :]).reshape(n, -1) * rows.baseline[:, None]
    is_shrunk = np.repeat(np.arange(p) > 0, basis.shape[2])
    return design, rows.residual, rows.weight, is_shrunk


def _fit_varying(rows: SurfaceRows, z: Floats) -> tuple[Ridge, Floats]:
    trial = rows.trial
    design, target, weight, is_shrunk = _regression(rows, z)
    found = ridge(design, target, weight, trial.folds, trial.n_folds, is_shrunk)
    effects = np.empty((len(z), len(rows.pairs.depth)))
    for fold in range(trial.n_folds):
        inside = trial.folds == fold
        effects[inside] = _varying(found.fold_coefs[fold], z[inside], rows.pairs.of_users(inside))
    return found, effects * rows.baseline[:, None]


def _boost(rows: SurfaceRows) -> TreeEnsemble:
    """Boosted residual of user and offer, not falling with depth."""
    trial = rows.trial
    design = np.column_stack([trial.x, rows.baseline, rows.pairs.of_rows(trial.arm - 1)])
    monotone = [0] * (trial.x.shape[1] + 1) + list(rows.terms.is_monotone)
    return _EFFECT_BOOSTING.fit(design, rows.residual, rows.balance, monotone)


def _fit_trees(rows: SurfaceRows) -> tuple[TreeEnsemble, Floats]:
    trial = rows.trial
    effects = np.empty((len(trial.arm), len(rows.pairs.depth)))
    for fold in range(trial.n_folds):
        inside = trial.folds == fold
        trees = _boost(rows.rows(~inside))
        pairs = rows.pairs.of_users(inside)
        effects[inside] = _tree_effects(trees, trial.x[inside], rows.baseline[inside], pairs)
    return _boost(rows), effects


def _tree_effects(trees: TreeEnsemble, x: Floats, baseline: Floats, pairs: PairFeatures) -> Floats:
    """`(n, m)` prediction with each offer less that with none, outcome units."""
    user = np.column_stack([x, baseline])
    none = trees.predict(np.column_stack([user, pairs.of_rows(np.full(len(x), -1))]))
    effects = np.empty((len(x), len(pairs.depth)))
    for j in range(effects.shape[1]):
        effects[:, j] = trees.predict(np.column_stack([user, pairs.of_offer(j)])) - none
    return effects


def _fit_cost(rows: SurfaceRows) -> tuple[TreeEnsemble | None, Floats]:
    """Boosted share of the nominal discount; factors bring each mechanic to its observed total."""
    trial, pairs = rows.trial, rows.pairs
    factor = np.ones(len(MECHANICS))
    offer = np.maximum(trial.arm - 1, 0)
    nominal = pairs.nominal[np.arange(len(offer)), offer]
    is_used = (trial.arm > 0) & (nominal > 0)
    if not is_used.any() or not trial.cost.any():
        return None, factor
    design = np.column_stack([trial.x, rows.baseline, pairs.of_rows(trial.arm - 1)])[is_used]
    monotone = [0] * (trial.x.shape[1] + 1) + list(rows.terms.is_monotone)
    nominal, weight = nominal[is_used], rows.balance[is_used]
    share = trial.cost[is_used] / nominal
    heavy = weight * nominal / nominal.mean()
    trees = _COST_BOOSTING.fit(design, share, heavy, monotone)
    expected = np.maximum(trees.predict(design), 0.0) * nominal
    mechanic = pairs.mechanic[offer[is_used]]
    found, total = (weight * trial.cost[is_used]) @ mechanic, (weight * expected) @ mechanic
    return trees, np.where(total > 0, found / np.where(total > 0, total, 1.0), factor)
