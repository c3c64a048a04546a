"""The response model of a campaign: per-offer learner and response surface in one answer.

An offer that was tried gets a weighted mean of its own doubly robust learner and of the surface
that learns all offers together; the weight is the one with the smaller doubly robust loss on rows
not seen. An offer that was never tried gets the surface alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.errors import DataError
from promo_ray.response.dr_learner import CANDIDATES, ArmEffects, DrLearner, pseudo_effects
from promo_ray.response.inputs import arms, finite_matrix, finite_vector, group_codes, propensities
from promo_ray.response.nuisance import balancing_weights, mean_of_trial
from promo_ray.response.surface import ResponseSurface, fit_surface
from promo_ray.response.trial import Trial, folds_of
from promo_ray.seeding import derive

Floats = NDArray[np.float64]
PARTS = (*CANDIDATES, "surface")
N_INNER_FOLDS = 5  # of nuisances, penalties and weights within a fit
_TERMS = ("mechanic", "depth_rate", "amount", "threshold", "scope", "item_ids")
_DELIVERY = ("channel", "window_days")  # terms too where a table of offers has them
_GRID = np.linspace(0.0, 1.0, 11)  # weights of the surface that are tried


class TrialLog(NamedTuple):
    """Rows of a campaign log for a fit; n rows, m offers.

    Attributes:
        groups: `(n,)` user of each row.
        x: `(n, d)` float64 features known before exposure.
        basket: `(n,)` median order value, currency units; NaN = unknown.
        arm: `(n,)` int64, 0 = control, j + 1 = offer j.
        outcome: `(n,)` float64 outcome, net of the discount if it is money.
        cost: `(n,)` float64 discount given, currency units, >= 0.
        propensity: `(n,)` float64 of the arm, in (0, 1].
    """

    groups: NDArray[np.str_]
    x: Floats
    basket: Floats
    arm: NDArray[np.int64]
    outcome: Floats
    cost: Floats
    propensity: Floats

    def rows(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> TrialLog:
        """The rows where `which` `(n,)` bool holds, or the rows of these numbers."""
        return TrialLog(**{name: column[which] for name, column in self._asdict().items()})


class EffectEstimate(NamedTuple):
    """Predictions for `n` users and `m` offers.

    Attributes:
        effect: `(n, m)` float64 incremental outcome; net of discount if the outcome is.
        discount: `(n, m)` float64 expected discount, currency units.
    """

    effect: Floats
    discount: Floats


class FoldEstimate(NamedTuple):
    """Predictions for the rows of one fold by models that saw none of its users.

    Attributes:
        effect: `(n, m)` float64, see `EffectEstimate`.
        discount: `(n, m)` float64.
        mean_outcome: `(n, m + 1)` float64 expected outcome under each arm, 0 = control.
    """

    effect: Floats
    discount: Floats
    mean_outcome: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class ResponseModel:
    """Effects and discounts of offers.

    Attributes:
        surface: for any offer.
        own: for the tried offers, each from its own scores.
        tried: terms of the tried offers, in the order of the arms.
        shares: `(m + 1,)` float64 shares of the arms in the log.
        surface_weight: weight of the surface for tried offers, in [0, 1].
        is_net: whether the outcome is net of the discount.
        losses: `(11,)` float64 doubly robust loss out of fold for surface weights 0, .1, .. 1,
            less that of the average effects, over its variance: below 0 there is a pattern.
    """

    surface: ResponseSurface
    own: ArmEffects
    tried: tuple[dict[str, Any], ...]
    shares: Floats
    surface_weight: float
    is_net: bool
    losses: Floats

    @classmethod
    def fit(
        cls,
        log: TrialLog,
        offers: pa.Table,
        seed: int,
        *,
        is_net: bool = True,
        scopes: Mapping[str, int] | None = None,
    ) -> ResponseModel:
        """Model from a campaign log.

        Args:
            log: rows.
            offers: table `OFFER_TERMS` of arms 1, 2, ...
            seed: seed of the folds within the fit.
            is_net: the outcome is net of the discount. It is then learned before discount, where
                more depth never does less, and the expected discount is taken off.
            scopes: see `fit_surface`.

        Raises:
            DataError: bad shape or value, the column of the log named; no row of control, or
                fewer than 2 rows per fold.
        """
        trial = trial_of_log(log, offers.num_rows + 1, seed, is_net=is_net)
        _, shares = balancing_weights(trial)
        mean = mean_of_trial(trial)
        own = DrLearner().fit(trial, mean)
        surface = fit_surface(trial, log.basket, offers, mean, scopes)
        baseline = own.effects.scale.of_mean(mean.out_of_fold)
        losses = _losses(
            pseudo_effects(trial, mean), own.out_of_fold, surface.out_of_fold, 1.0 / baseline
        )
        return cls(
            surface=surface.surface,
            own=own.effects,
            tried=tuple(_terms(row) for row in offers.to_pylist()),
            shares=shares,
            surface_weight=float(_GRID[losses.argmin()]),
            is_net=is_net,
            losses=losses,
        )

    @property
    def weights(self) -> Floats:
        """`(5,)` float64 mean weights of `PARTS` in the effects of the tried offers."""
        own = self.own.stack.mean(axis=0) * (1.0 - self.surface_weight)
        return np.append(own, self.surface_weight)

    def effects(self, x: Floats, basket: Floats, offers: pa.Table) -> EffectEstimate:
        """Predictions for users and offers, tried or not.

        Args:
            x: `(n, d)` float64 finite features as in the fit.
            basket: `(n,)` float64 median order value, currency units; NaN = unknown.
            offers: table `OFFER_TERMS`, m rows.

        Raises:
            DataError: `x` has another width than in the fit, or a value that is not finite.
        """
        features = finite_matrix(x, "x")
        width = self.own.scale.mean.n_features
        if features.shape[1] != width:
            raise DataError(f"must have {width} columns; got {features.shape[1]}", where="x")
        if np.shape(basket) != (len(features),):
            raise DataError(
                f"must have {len(features)} rows; got {np.shape(basket)}", where="basket"
            )
        gross, discount = self.surface.effects(features, np.asarray(basket, np.float64), offers)
        places = [_place(self.tried, row) for row in offers.to_pylist()]
        if self.surface_weight < 1 and any(p >= 0 for p in places):
            own = self.own.predict(features)
            for j, place in enumerate(places):
                if place >= 0:
                    gross[:, j] *= self.surface_weight
                    gross[:, j] += (1.0 - self.surface_weight) * own[:, place]
        return EffectEstimate(gross - discount if self.is_net else gross, discount)

    def mean_outcome(self, x: Floats, estimate: EffectEstimate) -> Floats:
        """Expected outcome of each arm from the effects of the tried offers.

        Args:
            x: `(n, d)` float64 features.
            estimate: of `x` and the tried offers, m columns in the order of the arms.

        Returns:
            `(n, m + 1)` float64, column 0 = control.
        """
        gross = estimate.effect + estimate.discount if self.is_net else estimate.effect
        control = self.own.scale.mean.predict(x) - gross @ self.shares[1:]
        return np.column_stack([control, control[:, None] + estimate.effect])

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and a JSON document for an artefact; no code is stored."""
        arrays = {
            **self.surface.to_arrays("surface."),
            **self.own.to_arrays("own."),
            "shares": self.shares,
            "losses": self.losses,
        }
        document = {
            "format": 1,
            "tried": list(self.tried),
            "surface_weight": self.surface_weight,
            "is_net": self.is_net,
            "parts": dict(zip(PARTS, self.weights.tolist(), strict=True)),
            "why": self.reason(),
        }
        return {k: np.ascontiguousarray(v) for k, v in arrays.items()}, document

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], document: Mapping[str, Any]
    ) -> ResponseModel:
        """The model that `to_arrays` wrote; predicts the same bits.

        Raises:
            DataError: an array is missing, or the format is newer.
        """
        if document.get("format") != 1:
            raise DataError(f"format must be 1; got {document.get('format')!r}", where="model")
        return cls(
            surface=ResponseSurface.from_arrays(arrays, "surface."),
            own=ArmEffects.from_arrays(arrays, "own."),
            tried=tuple(dict(t) for t in document["tried"]),
            shares=arrays["shares"],
            surface_weight=float(document["surface_weight"]),
            is_net=bool(document["is_net"]),
            losses=arrays["losses"],
        )

    def reason(self) -> str:
        """One plain sentence on what tried offers are judged by and why."""
        best, alone, pooled = self.losses.min(), self.losses[0], self.losses[-1]
        verdict = "a pattern was found" if best < 0 else "no pattern beats the average effects"
        return (
            f"tried offers: {self.surface_weight:.0%} response surface, the rest their own "
            f"learner; relative doubly robust loss {best:+.3g}, own learner alone {alone:+.3g}, "
            f"surface alone {pooled:+.3g}; {verdict}"
        )


def fit_fold(
    log: TrialLog,
    offers: pa.Table,
    folds: NDArray[np.int64],
    fold: int,
    seed: int,
    *,
    is_net: bool = True,
) -> FoldEstimate:
    """Predictions for one fold by a model of the other folds, its inner folds among themselves.

    Args:
        log: all rows.
        offers: table `OFFER_TERMS` of arms 1, 2, ...
        folds: `(n,)` int64 fold of each row; a user's rows share one, see `folds_of`.
        fold: the fold to predict.
        seed: seed of the folds within the fit.
        is_net: see `ResponseModel.fit`.

    Returns:
        Predictions for the rows of the fold, in their order.
    """
    own = folds == fold
    model = ResponseModel.fit(log.rows(~own), offers, seed, is_net=is_net)
    estimate = model.effects(log.x[own], log.basket[own], offers)
    return FoldEstimate(*estimate, model.mean_outcome(log.x[own], estimate))


def trial_of_log(log: TrialLog, n_arms: int, seed: int, *, is_net: bool = True) -> Trial:
    """Checked rows of a log with folds of their own; the outcome is before discount.

    Raises:
        DataError: see `ResponseModel.fit`.
    """
    x = finite_matrix(log.x, "x")
    n = len(x)
    arm = arms(log.arm, "arm", n, n_arms)
    if not (arm == 0).any() or not (arm > 0).any():
        raise DataError("must hold control (0) and at least one offer", where="arm")
    cost = finite_vector(log.cost, "cost", n)
    if cost.min(initial=0.0) < 0:
        raise DataError("must be >= 0", where="cost")
    if np.shape(log.basket) != (n,):
        raise DataError(f"must have {n} rows; got {np.shape(log.basket)}", where="basket")
    outcome = finite_vector(log.outcome, "outcome", n)
    # A stream of its own: split like the outer folds, the inner ones would lack a fold.
    folds = folds_of(log.groups, n, N_INNER_FOLDS, derive(seed, "inner folds"))
    counts = np.bincount(folds, minlength=N_INNER_FOLDS)
    if counts.min() < 2:
        raise DataError(f"must give each of {N_INNER_FOLDS} folds 2 rows", where="groups")
    return Trial(
        x=x,
        arm=arm,
        outcome=outcome + cost if is_net else outcome,
        cost=cost,
        propensity=propensities(log.propensity, "propensity", arm, n_arms),
        weight=np.ones(n),
        folds=folds,
        user=group_codes(log.groups, n),
        n_arms=n_arms,
        n_folds=N_INNER_FOLDS,
    )


def _losses(target: Floats, own: Floats, surface: Floats, weight: Floats) -> Floats:
    """`(11,)` loss for each weight of the surface, less the average effects' loss, relative."""

    def loss(effects: Floats) -> float:
        return float(weight @ ((target - effects) ** 2).sum(axis=1))

    base = loss(np.average(target, axis=0, weights=weight)[None, :])
    found = np.array([loss(w * surface + (1.0 - w) * own) for w in _GRID])
    return (found - base) / base if base > 0 else np.zeros(len(_GRID))


def _terms(row: Mapping[str, Any]) -> dict[str, Any]:
    delivery = {name: row[name] for name in _DELIVERY if row.get(name) is not None}
    return {name: row[name] for name in _TERMS if name in OFFER_TERMS.names} | delivery


def _place(tried: tuple[dict[str, Any], ...], row: Mapping[str, Any]) -> int:
    """Arm index of a tried offer with the same terms, -1 if there is none."""
    terms = _terms(row)
    return next((j for j, known in enumerate(tried) if known == terms), -1)
