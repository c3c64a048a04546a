"""Sufficient statistics of a trial: users, means, scatter and skewness by arm, merged over blocks.

Every test of means, proportions and ratios, with or without covariates, by segment or by look,
needs no more than these. All rows of a user must lie in one block; blocks merge in the fixed tree
of `promo_ray.execution`, so an answer has the same bits for any number of workers.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.errors import DataError
from promo_ray.evaluation.skewness import skewed_z
from promo_ray.execution.threads import single_threaded
from promo_ray.response.inputs import arms, finite_matrix, finite_vector, group_codes

Floats = NDArray[np.float64]
_NONE: Floats = np.zeros(0)
_MANY = 10_000  # products from which on BLAS may use threads, whose number changes the last bits
_ROUNDING = 1e-13  # relative to the mean: scatter and effects below it are none


class ArmMoments(NamedTuple):
    """Moments of users by arm (or by segment and arm), to merge with those of other blocks.

    The k columns are the outcome, then the denominator if there is one, then the covariates.

    Attributes:
        n: `(n_arms,)` int64 users.
        mean: `(n_arms, k)` float64 means; 0 for an arm without users.
        scatter: `(n_arms, k, k)` float64 sums of products of two deviations from the mean.
        third: `(n_arms, k, k, k)` float64 sums of products of three.
        has_denominator: whether column 1 is the denominator of a ratio.
        is_binary: whether every outcome is 0 or 1, one row per user.
    """

    n: NDArray[np.int64]
    mean: Floats
    scatter: Floats
    third: Floats
    has_denominator: bool
    is_binary: bool

    @property
    def n_covariates(self) -> int:
        """Columns behind outcome and denominator."""
        return int(self.mean.shape[1]) - 1 - self.has_denominator

    def cells(self, start: int, stop: int) -> ArmMoments:
        """The rows `start` to `stop`, for example the arms of one segment."""
        own = slice(start, stop)
        return self._replace(
            n=self.n[own], mean=self.mean[own], scatter=self.scatter[own], third=self.third[own]
        )


class AbRows(NamedTuple):
    """One block of a trial in the order of its rows; see `ab_test` for the meaning.

    Attributes:
        outcome: `(n,)` float64.
        treatment: `(n,)` arm, 0 = control.
        denominator: `(n,)` float64 or None.
        covariate: `(n,)` or `(n, d)` float64 or None.
        groups: `(n,)` user of each row, or None = every row is a user.
    """

    outcome: ArrayLike
    treatment: ArrayLike
    denominator: ArrayLike | None = None
    covariate: ArrayLike | None = None
    groups: ArrayLike | None = None


class Users(NamedTuple):
    """One row per user: arm, columns and the first row of the user in the block.

    Attributes:
        arm: `(n_users,)` int64.
        columns: `(n_users, k)` float64, see `ArmMoments`.
        first: `(n_users,)` int64 first row of the user.
        has_denominator: whether column 1 is a denominator.
        is_binary: whether every outcome is 0 or 1, one row per user.
    """

    arm: NDArray[np.int64]
    columns: Floats
    first: NDArray[np.int64]
    has_denominator: bool
    is_binary: bool


def users_of(rows: AbRows, n_arms: int | None = None) -> Users:
    """Rows of a block summed by user, users in the order in which they first occur.

    With `groups` and no denominator the metric is the mean per row, whose denominator is the
    number of rows of the user. Covariates are averaged over the rows of a user.

    Args:
        rows: of the block.
        n_arms: arms of the trial; None = every arm from 0 to the largest must occur.

    Raises:
        DataError: bad shape or value, the argument named; a user in two arms.
    """
    outcome = finite_vector(rows.outcome, "outcome")
    n = len(outcome)
    arm = arms(rows.treatment, "treatment", n, n_arms)
    parts = [outcome[:, None]]
    if rows.denominator is not None:
        parts.append(finite_vector(rows.denominator, "denominator", n)[:, None])
    n_sums = len(parts)
    if rows.covariate is not None:
        raw = np.asarray(rows.covariate)
        parts.append(finite_matrix(raw[:, None] if raw.ndim == 1 else raw, "covariate", n))
    columns = np.hstack(parts)
    is_binary = rows.denominator is None and bool(np.isin(outcome, (0.0, 1.0)).all())
    codes = group_codes(rows.groups, n)
    first = np.arange(n)
    if rows.groups is not None:
        first = np.unique(codes, return_index=True)[1]
    if not np.array_equal(arm[first][codes], arm):
        raise DataError("must be one arm per user; got a user in two", where="treatment")
    if rows.groups is None:
        return Users(arm, columns, first, rows.denominator is not None, is_binary)
    size = np.bincount(codes).astype(np.float64)
    totals: Floats = np.array([np.bincount(codes, weights=c) for c in columns.T]).T.astype(float)
    totals[:, n_sums:] = totals[:, n_sums:] / size[:, None]
    if rows.denominator is None:
        totals = np.insert(totals, 1, size, axis=1)
    order = np.argsort(first, kind="stable")
    is_binary = is_binary and bool((size == 1).all())
    return Users(arm[first][order], totals[order], first[order], True, is_binary)


def moments_of(users: Users, n_arms: int, cell: NDArray[np.int64] | None = None) -> ArmMoments:
    """Moments of users by arm.

    Args:
        users: one row per user.
        n_arms: arms of the trial, or rows of the answer if `cell` is given.
        cell: `(n_users,)` int64 row of the answer that each user counts in, in place of its arm.
    """
    place = users.arm if cell is None else cell
    k = users.columns.shape[1]
    n = np.bincount(place, minlength=n_arms)
    columns = users.columns[np.argsort(place, kind="stable")]
    mean, scatter = np.zeros((n_arms, k)), np.zeros((n_arms, k, k))
    third = np.zeros((n_arms, k, k, k))
    stop = 0
    for a in np.flatnonzero(n).tolist():
        start, stop = stop, stop + int(n[a])
        mean[a] = [c.mean() for c in columns[start:stop].T]  # pairwise sums: exact to 1e-15
        own = columns[start:stop] - mean[a]
        with single_threaded() if own.size * k > _MANY else nullcontext():
            scatter[a] = own.T @ own
            for i in range(k):
                rest = own[:, i:]
                cubes = (rest * own[:, [i]]).T @ rest
                third[a, i, i:, i:] = third[a, i:, i, i:] = third[a, i:, i:, i] = cubes
    return ArmMoments(
        n.astype(np.int64), mean, scatter, third, users.has_denominator, users.is_binary
    )


def block_moments(rows: AbRows, n_arms: int) -> ArmMoments:
    """Moments of one block; the function that travels to the shards."""
    return moments_of(users_of(rows, n_arms), n_arms)


def merge_moments(a: ArmMoments, b: ArmMoments) -> ArmMoments:
    """Moments of the users of both (Chan, Golub and LeVeque 1979; third ones: Pebay 2008).

    Raises:
        DataError: the two have other columns.
    """
    if a.mean.shape != b.mean.shape or a.has_denominator != b.has_denominator:
        raise DataError(
            f"must have the same columns; got {a.mean.shape} and {b.mean.shape}", where="moments"
        )
    n = a.n + b.n
    share = np.maximum(n, 1)
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.n / share)[:, None]
    square = delta[:, :, None] * delta[:, None, :]
    weight = (a.n * b.n / share)[:, None, None]
    scatter = a.scatter + b.scatter + square * weight
    cross = (a.n[:, None, None] * b.scatter - b.n[:, None, None] * a.scatter) / share[:, None, None]
    cross = cross[:, :, :, None] * delta[:, None, None, :]
    third = a.third + b.third + cross + cross.transpose(0, 1, 3, 2) + cross.transpose(0, 3, 1, 2)
    lean = weight * ((a.n - b.n) / share)[:, None, None]
    third += (square * lean)[:, :, :, None] * delta[:, None, None, :]
    return ArmMoments(n, mean, scatter, third, a.has_denominator, a.is_binary and b.is_binary)


class Contrast(NamedTuple):
    """An arm against control.

    Attributes:
        effect: difference of means or ratios, adjusted for the covariates.
        variance: `(2,)` of the two adjusted estimates, control first; the effect's is their sum.
        freedom: `(2,)` degrees of freedom of the two.
        base: adjusted mean or ratio of control.
        variance_cut: share of the effect's variance that the covariates took away.
        skewness: third central moment of the effect over its variance, outcome units, if both
            arms were drawn from what they hold together; 0 for arms of the same size.
    """

    effect: float
    variance: tuple[float, float]
    freedom: tuple[float, float]
    base: float
    variance_cut: float
    skewness: float

    @property
    def se(self) -> float:
        """Standard error of the effect."""
        return float(sum(self.variance) ** 0.5)

    @property
    def z(self) -> float:
        """Effect over its standard error, skewness taken out; see `skewed_z`."""
        return skewed_z(self.effect, sum(self.variance), self.skewness)


def estimate_of(moments: ArmMoments, arm: int) -> tuple[float, float]:
    """Mean or ratio of an arm and its variance, without covariates; NaN if undefined."""
    value, variance, _, _ = _linear(moments, arm)
    return value, variance


def contrast_of(moments: ArmMoments, arm: int) -> Contrast:
    """An arm against control from moments alone.

    Ratios: delta method on sums by user (Deng, Knoblich and Lu 2018). Covariates: the linear
    combination of their differences with the least variance is taken off (CUPED: Deng, Xu,
    Kohavi and Walker 2013; weights by arm, so an uneven split cannot make it worse).
    """
    value, variance, cov, spread = _linear(moments, arm)
    base, base_variance, base_cov, base_spread = _linear(moments, 0)
    n, n_base = int(moments.n[arm]), int(moments.n[0])
    d = moments.n_covariates
    freedom = (n_base - 1 - d, n - 1 - d)
    least = _ROUNDING * max(abs(value), abs(base))
    if abs(value - base) <= least and variance + base_variance <= least * least:
        return Contrast(0.0, (0.0, 0.0), (n_base - 1, n - 1), base, 0.0, 0.0)  # one value for all
    if not d or min(freedom) < 1 or np.isnan(value - base):
        k = _skewness(moments, arm, np.zeros(d))
        return Contrast(value - base, (base_variance, variance), (n_base - 1, n - 1), base, 0.0, k)
    theta = np.linalg.lstsq(spread + base_spread, cov + base_cov, rcond=1e-12)[0]
    x, x_base = moments.mean[arm, -d:], moments.mean[0, -d:]
    pooled = (n * x + n_base * x_base) / (n + n_base)
    value -= float(theta @ (x - pooled))
    base -= float(theta @ (x_base - pooled))
    raw = variance + base_variance
    variance += float(theta @ spread @ theta - 2 * theta @ cov)
    base_variance += float(theta @ base_spread @ theta - 2 * theta @ base_cov)
    variance = max(0.0, variance) * (n - 1) / freedom[1]
    base_variance = max(0.0, base_variance) * (n_base - 1) / freedom[0]
    cut = 1 - (variance + base_variance) / raw if raw > 0 else 0.0
    k = _skewness(moments, arm, np.asarray(theta, dtype=np.float64))
    return Contrast(value - base, (base_variance, variance), freedom, base, cut, k)


def _skewness(moments: ArmMoments, arm: int, theta: Floats) -> float:
    """(1 / n - 1 / n_base) times third over second moment of both arms' influence, pooled.

    Pooled, for the few users of a small arm know its third moment least; each arm's own k would
    be of no use there, and equal arms would no longer cancel exactly.
    """
    pair = [0, arm]
    n, n_base = int(moments.n[arm]), int(moments.n[0])
    if not n or not n_base or n == n_base:
        return 0.0
    influence = np.zeros(moments.mean.shape[1])
    influence[0] = 1.0
    if moments.has_denominator:
        total = moments.n[pair] @ moments.mean[pair]
        if not total[1] > 0:
            return 0.0
        influence[:2] = np.array([1.0, -total[0] / total[1]]) * (n + n_base) / total[1]
    influence[len(influence) - len(theta) :] = -theta
    second = float(influence @ moments.scatter[pair].sum(axis=0) @ influence)
    third = float(influence @ (moments.third[pair].sum(axis=0) @ influence) @ influence)
    return third / second * (1 / n - 1 / n_base) if second > 0 else 0.0


def _linear(moments: ArmMoments, arm: int) -> tuple[float, float, Floats, Floats]:
    """Estimate, its variance, its covariance with the covariates' means, and their covariance."""
    m = 1 + moments.has_denominator
    n = int(moments.n[arm])
    d = moments.n_covariates
    if n < 2:
        return float("nan"), float("nan"), np.full(d, np.nan), np.full((d, d), np.nan)
    mean = moments.mean[arm]
    if m == 1 and not d:  # the plain mean, which simulations of looks ask for millions of times
        return float(mean[0]), float(moments.scatter[arm, 0, 0]) / ((n - 1) * n), _NONE, _NONE
    covariance = moments.scatter[arm] / ((n - 1) * n)
    value, gradient = float(mean[0]), np.ones(1)
    if moments.has_denominator:
        if mean[1] <= 0:
            return float("nan"), float("nan"), np.full(d, np.nan), np.full((d, d), np.nan)
        value = float(mean[0] / mean[1])
        gradient = np.array([1.0, -value]) / mean[1]
    return (
        value,
        float(gradient @ covariance[:m, :m] @ gradient),
        gradient @ covariance[:m, m:],
        covariance[m:, m:],
    )
