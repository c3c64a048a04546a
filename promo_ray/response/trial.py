"""A checked set of trial rows, and the folds that keep a user's rows together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.errors import ConfigError
from promo_ray.response.inputs import arms, finite_matrix, finite_vector, group_codes, propensities
from promo_ray.seeding import keys_of, uniforms


class Trial(NamedTuple):
    """Rows of a campaign log with features; row i is one user in one campaign.

    Attributes:
        x: `(n, d)` float64 features.
        arm: `(n,)` int64, 0 = control.
        outcome: `(n,)` float64 outcome.
        cost: `(n,)` float64 discount given, currency units; 0 if the outcome has no discount.
        propensity: `(n,)` float64 probability of the arm, in (0, 1].
        weight: `(n,)` float64 > 0 of the row in every mean, 1 unless rows stand for several.
        folds: `(n,)` int64 fold of the row's user.
        user: `(n,)` int64 >= 0 number of the row's user.
        n_arms: arms, control included.
        n_folds: folds.
        seed: of what a learner draws.
    """

    x: NDArray[np.float64]
    arm: NDArray[np.int64]
    outcome: NDArray[np.float64]
    cost: NDArray[np.float64]
    propensity: NDArray[np.float64]
    weight: NDArray[np.float64]
    folds: NDArray[np.int64]
    user: NDArray[np.int64]
    n_arms: int
    n_folds: int
    seed: int = 0

    def rows(self, which: NDArray[np.bool_]) -> Trial:
        """The rows where `which` `(n,)` bool holds."""
        return self._replace(
            x=self.x[which],
            arm=self.arm[which],
            outcome=self.outcome[which],
            cost=self.cost[which],
            propensity=self.propensity[which],
            weight=self.weight[which],
            folds=self.folds[which],
            user=self.user[which],
        )

    def pair(self, arm: int) -> Trial:
        """The rows of control and of one arm, which becomes arm 1.

        The propensities stay those among all arms: `balancing_weights` scales by the shares.
        """
        part = self.rows((self.arm == 0) | (self.arm == arm))
        return part._replace(arm=(part.arm > 0).astype(np.int64), n_arms=2)


def folds_of(groups: ArrayLike | None, n: int, n_folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each row by a hash of its group, so that it depends on nothing else.

    Args:
        groups: `(n,)` user ids (strings or whole numbers); row numbers if None.
        n: rows.
        n_folds: folds, >= 2.
        seed: seed of the split.

    Returns:
        `(n,)` int64 in [0, n_folds).

    Raises:
        ConfigError: fewer than 2 folds, or no whole number.
        DataError: `groups` has another length, or a missing value.
    """
    if not isinstance(n_folds, int | np.integer) or n_folds < 2:
        raise ConfigError(f"n_folds must be a whole number >= 2; got {n_folds!r}")
    codes = group_codes(groups, n)
    names = np.arange(n) if groups is None else np.unique(np.asarray(groups))
    draws = uniforms(seed, "response.folds", keys_of(str(g) for g in names.tolist()))[:, 0]
    return np.asarray((draws * n_folds).astype(np.int64)[codes])


def arm_left_out(
    arm: NDArray[np.int64], folds: NDArray[np.int64], n_arms: int
) -> tuple[int, int] | None:
    """An arm that no row outside a fold has, and that fold; None if there is none."""
    for fold in np.unique(folds).tolist():
        rest = np.bincount(arm[folds != fold], minlength=n_arms)
        if not rest.all():
            return int(rest.argmin()), fold
    return None


def check_trial(
    x: ArrayLike,
    treatment: ArrayLike,
    outcome: ArrayLike,
    propensity: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_arms: int | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> Trial:
    """`Trial` from raw arrays.

    Raises:
        DataError: bad shape or value, the argument named.
    """
    features = finite_matrix(x, "x")
    n = len(features)
    arm = arms(treatment, "treatment", n, n_arms)
    k = n_arms if n_arms is not None else int(arm.max()) + 1
    return Trial(
        x=features,
        arm=arm,
        outcome=finite_vector(outcome, "outcome", n),
        cost=np.zeros(n),
        propensity=propensities(propensity, "propensity", arm, k),
        weight=np.ones(n),
        folds=folds_of(groups, n, n_folds, seed),
        user=group_codes(groups, n),
        n_arms=k,
        n_folds=n_folds,
        seed=seed,
    )
