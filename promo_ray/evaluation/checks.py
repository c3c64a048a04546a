"""Checks that a result must pass before anyone acts on it."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import TYPE_CHECKING, NamedTuple

from numpy.typing import ArrayLike

from promo_ray.errors import ConfigError, DataError
from promo_ray.response.inputs import finite_vector

if TYPE_CHECKING:  # policy_value takes checks
    from promo_ray.evaluation.policy_value import PolicyEstimate

MIN_EFFECTIVE_SAMPLE = 100.0  # below it the normal interval of a weighted mean is not to be trusted
MIN_PROPENSITY = 1e-3  # one row then counts for a thousand


class Check(NamedTuple):
    """Outcome of one check.

    Attributes:
        name: what was checked.
        passed: whether it is fine.
        statistic: the figure looked at.
        limit: what it is compared with.
        detail: one plain sentence with the figures.
    """

    name: str
    passed: bool
    statistic: float
    limit: float
    detail: str


def check_level(level: float) -> None:
    """Refuse a level of an interval outside (0, 1), and what is no number.

    Raises:
        ConfigError: of such a level.
    """
    if not (isinstance(level, Real) and 0 < level < 1):
        raise ConfigError(f"level must lie in (0, 1); got {level!r}")


def enough_users(least: int, passed: bool | None = None) -> Check:
    """Whether every arm of a trial holds 100 users.

    Args:
        least: users of the smallest arm.
        passed: of several looks, whether one had enough; None = whether these users are.
    """
    passed = least >= MIN_EFFECTIVE_SAMPLE if passed is None else passed
    text = f"smallest arm holds {least} users; {MIN_EFFECTIVE_SAMPLE:.0f} are needed"
    return Check("enough_users", passed, least, MIN_EFFECTIVE_SAMPLE, text)


def failures(checks: Iterable[Check]) -> tuple[str, ...]:
    """One sentence per failed check; empty if all passed."""
    return tuple(f"{c.name}: {c.detail}" for c in checks if not c.passed)


def overlap(propensity: ArrayLike, limit: float = MIN_PROPENSITY) -> Check:
    """Whether every logged arm had a fair chance: the smallest propensity is at least `limit`.

    Args:
        propensity: `(n,)` probability of the arm that each row got.
        limit: smallest probability accepted.
    """
    values = finite_vector(propensity, "propensity")
    if not len(values):
        raise DataError("must not be empty", where="propensity")
    smallest = float(values.min())
    share = float((values < limit).mean())
    text = f"smallest propensity {smallest:.3g}; {share:.2%} of rows below {limit:g}"
    return Check("overlap", smallest >= limit, smallest, limit, text)


def effective_sample(estimate: PolicyEstimate, limit: float = MIN_EFFECTIVE_SAMPLE) -> Check:
    """Whether enough rows speak for a policy: effective sample size of its weights.

    Args:
        estimate: of the policy.
        limit: smallest effective sample size accepted.
    """
    text = (
        f"effective sample {estimate.ess:.0f} of {estimate.n} rows, "
        f"largest weight {estimate.max_weight:.3g}"
    )
    return Check("effective_sample", estimate.ess >= limit, estimate.ess, limit, text)
