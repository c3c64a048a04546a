"""A response surface with its uncertainty: fitted on all users, and again on halves of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.errors import ConfigError
from promo_ray.response.dr_learner import pseudo_effects
from promo_ray.response.halves import half_of, half_width
from promo_ray.response.model import TrialLog, trial_of_log
from promo_ray.response.nuisance import mean_of_trial
from promo_ray.response.slope import clustered_slope
from promo_ray.response.surface import ResponseSurface, SurfaceEffects, fit_surface

Floats = NDArray[np.float64]


class Between(NamedTuple):
    """An estimate and the ends of its interval, arrays of one shape."""

    value: Floats
    low: Floats
    high: Floats


class SurfaceIntervals(NamedTuple):
    """Predictions with intervals.

    Attributes:
        gross: effect before discount, outcome units.
        discount: expected discount, currency units.
        net: `gross` less `discount`: incremental margin if the outcome is money.
    """

    gross: Between
    discount: Between
    net: Between


@dataclass(frozen=True, kw_only=True, eq=False)
class SurfaceEnsemble:
    """A surface, and the same fitted on halves of the users.

    The spread of the halves around the whole is the standard error (half-sampling; Politis and
    Romano 1994), so `halves` is also what `design_menu` takes for `robustness`. It holds the
    sampling error of slopes, trees and discounts, not that of the mean outcome, nor what shrinkage
    hides: the effect of a user who is unlike all others is pulled toward the average.

    Attributes:
        surface: fitted on all users.
        halves: fitted on halves of them.
        slope: of doubly robust effects of the tried offers on predictions without the row's fold,
            within offers; 1 = calibrated. NaN where predictions do not differ.
        slope_se: its standard error, clustered by user.
    """

    surface: ResponseSurface
    halves: tuple[ResponseSurface, ...]
    slope: float
    slope_se: float

    @classmethod
    def fit(
        cls,
        log: TrialLog,
        offers: pa.Table,
        seed: int,
        *,
        n_halves: int = 20,
        is_net: bool = True,
        scopes: Mapping[str, int] | None = None,
    ) -> SurfaceEnsemble:
        """Ensemble from a campaign log; arguments as of `ResponseModel.fit`.

        Args:
            log: rows.
            offers: table `OFFER_TERMS` of arms 1, 2, ...; see `fit_surface`.
            seed: seed of the folds and of the halves.
            n_halves: fits on halves of the users, >= 2.
            is_net: the outcome is net of the discount.
            scopes: see `fit_surface`.

        Raises:
            ConfigError: `n_halves` < 2.
            DataError: see `ResponseModel.fit`.
        """
        if n_halves < 2:
            raise ConfigError(f"n_halves must be >= 2; got {n_halves!r}")
        trial = trial_of_log(log, offers.num_rows + 1, seed, is_net=is_net)
        mean = mean_of_trial(trial)
        fitted = fit_surface(trial, log.basket, offers, mean, scopes)
        halves = tuple(
            fitted.refit(half_of(trial.user, seed, f"surface.half.{b}")) for b in range(n_halves)
        )
        slope = _slope(fitted.out_of_fold, pseudo_effects(trial, mean), trial.user)
        return cls(surface=fitted.surface, halves=halves, slope=slope[0], slope_se=slope[1])

    def effects(self, x: Floats, basket: Floats, offers: pa.Table) -> SurfaceEffects:
        """Predictions of the surface; see `ResponseSurface.effects`."""
        return self.surface.effects(x, basket, offers)

    def intervals(
        self, x: Floats, basket: Floats, offers: pa.Table, level: float = 0.95
    ) -> SurfaceIntervals:
        """Predictions `(n, m)` with t intervals for each user; see `ResponseSurface.effects`."""
        return self._intervals(x, basket, offers, level, is_mean=False)

    def mean_intervals(
        self, x: Floats, basket: Floats, offers: pa.Table, level: float = 0.95
    ) -> SurfaceIntervals:
        """Predictions `(m,)` with t intervals, means over these users."""
        return self._intervals(x, basket, offers, level, is_mean=True)

    def _intervals(
        self, x: Floats, basket: Floats, offers: pa.Table, level: float, *, is_mean: bool
    ) -> SurfaceIntervals:
        whole = _parts(self.surface, x, basket, offers, is_mean)
        draws = (_parts(half, x, basket, offers, is_mean) for half in self.halves)
        width = half_width(whole, draws, level)
        return SurfaceIntervals(
            *(Between(v, v - w, v + w) for v, w in zip(whole, width, strict=True))
        )


def _parts(
    surface: ResponseSurface, x: Floats, basket: Floats, offers: pa.Table, is_mean: bool
) -> Floats:
    """Gross effect, discount and net effect: `(3, n, m)`, means over the users `(3, m)`."""
    gross, discount = surface.effects(x, basket, offers)
    if is_mean:
        gross, discount = gross.mean(axis=0), discount.mean(axis=0)
    return np.stack([gross, discount, gross - discount])


def _slope(predicted: Floats, found: Floats, user: NDArray[np.int64]) -> tuple[float, float]:
    """Slope of found on predicted effects within offers, and its clustered standard error."""
    x = (predicted - predicted.mean(axis=0)).ravel()
    y = (found - found.mean(axis=0)).ravel()
    least = 1e-12 * max(1.0, float((predicted**2).sum()))
    by_pair = np.repeat(user, predicted.shape[1])
    slope, error = clustered_slope(x, y, np.ones(len(x)), by_pair, least)
    n = int(user.max()) + 1
    return slope, error * float(np.sqrt(n / max(1, n - 1)))
