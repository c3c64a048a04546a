"""The gate before a new policy: nothing goes live that the log cannot show to be better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from numpy.typing import ArrayLike

from promo_ray.evaluation.checks import Check
from promo_ray.evaluation.policy_value import PolicyEstimate, compare_policies


class Release(NamedTuple):
    """Verdict of the gate.

    Attributes:
        is_released: whether the new policy may replace the old one.
        reason: one plain sentence with the figures.
        gain: new minus old, per row.
    """

    is_released: bool
    reason: str
    gain: PolicyEstimate


def release_gate(
    policy_probs: ArrayLike,
    old_probs: ArrayLike | None,
    action: ArrayLike,
    reward: ArrayLike,
    propensity: ArrayLike | None,
    x: ArrayLike | None = None,
    q_hat: ArrayLike | None = None,
    method: str = "auto",
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    least_gain: float = 0.0,
    checks: Sequence[Check] = (),
    seed: int = 0,
) -> Release:
    """Release a policy only if the lower bound of its gain over the old one is above `least_gain`.

    The bound is the lower end of the paired two-sided interval, so a policy that is no better
    passes with probability (1 - level) / 2 at most, up to the normal approximation. The policy
    must not have been learned from the same rows. Safe policy improvement: Thomas et al. 2015.

    Args:
        policy_probs: the new policy, see `policy_value`.
        old_probs: the old one; None is the policy that wrote the log.
        action: see `policy_value`.
        reward: see `policy_value`.
        propensity: see `policy_value`.
        x: see `policy_value`.
        q_hat: see `policy_value`.
        method: see `policy_value`.
        groups: see `policy_value`.
        level: of the interval.
        least_gain: gain per row that the new policy must show, say the cost of the change.
        checks: see `policy_value`.
        seed: see `policy_value`.
    """
    gain = compare_policies(
        policy_probs, old_probs, action, reward, propensity, x, q_hat, method, groups,
        level=level, seed=seed, checks=checks,
    )  # fmt: skip
    if gain.withheld:
        return Release(False, f"withheld: {gain.withheld}", gain)
    is_released = gain.low > least_gain
    word = "released" if is_released else "kept back"
    text = (
        f"{word}: gain {gain.value:.4g} per row, {level:.0%} interval {gain.low:.4g} to "
        f"{gain.high:.4g}, must be above {least_gain:g}"
    )
    return Release(is_released, text, gain)
