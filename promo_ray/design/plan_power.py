"""How many users of a plan get nothing, and what effect that can find."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import ndtri

from promo_ray.design.plan_catalog import LifecyclePlan
from promo_ray.errors import ConfigError


@dataclass(frozen=True)
class Measurement:
    """How a plan will be measured.

    Attributes:
        n_treated, n_holdout: users with the plan and without.
        holdout_rate: share of the audience held out.
        detectable: smallest effect per user that is found with the plan's power.
    """

    n_treated: int
    n_holdout: int
    holdout_rate: float
    detectable: float


def measurement(
    plan: LifecyclePlan, n_users: int, outcome_sd: float, n_held_out: int | None = None
) -> Measurement:
    """Holdout of a plan, and what it can detect.

    Source: two-sample z-test of means, (z_(1 - alpha / 2) + z_power) sd sqrt(1 / n1 + 1 / n0)
    (Cohen 1988).

    Args:
        plan: the plan.
        n_users: users of the audience, >= 2.
        outcome_sd: standard deviation of the metric between users, > 0.
        n_held_out: users held out, where they are known; the plan's share if None.

    Raises:
        ConfigError: fewer than two users, or a standard deviation not above 0.
    """
    _check(n_users, outcome_sd)
    meant = round(plan.holdout_rate * n_users) if n_held_out is None else n_held_out
    n_holdout = min(max(1, meant), n_users - 1)
    n_treated = n_users - n_holdout
    half = _z(plan) * outcome_sd * math.sqrt(1 / n_treated + 1 / n_holdout)
    return Measurement(n_treated, n_holdout, n_holdout / n_users, half)


def holdout_for(plan: LifecyclePlan, n_users: int, outcome_sd: float, effect: float) -> float:
    """Smallest share to hold out so that an effect per user can be found.

    Raises:
        ConfigError: no share suffices; the least effect that could be found is named.
    """
    _check(n_users, outcome_sd)
    least = 2 * _z(plan) * outcome_sd / math.sqrt(n_users)  # at a half
    if not effect >= least:
        raise ConfigError(
            f"effect must be >= {least:.4g} to be found among {n_users} users; got {effect}"
        )
    return (1 - math.sqrt(max(0.0, 1 - (least / effect) ** 2))) / 2


def _check(n_users: int, outcome_sd: float) -> None:
    if n_users < 2:
        raise ConfigError(f"n_users must be >= 2; got {n_users}")
    if not 0 < outcome_sd < math.inf:
        raise ConfigError(f"outcome_sd must be finite and > 0; got {outcome_sd}")


def _z(plan: LifecyclePlan) -> float:
    return float(ndtri(1 - plan.alpha / 2) + ndtri(plan.power))
