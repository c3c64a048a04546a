"""The gain of the plan by lifecycle segment, for the evaluation."""

from __future__ import annotations

from typing import Any

from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.evaluation.policy_segments import compare_policies_by_segment
from promo_ray.pipeline.policies import Arms, Log
from promo_ray.pipeline.stage import Context


def gains_by_segment(
    context: Context, log: Log, policy: Arms, level: float
) -> list[dict[str, Any]]:
    """One entry per segment: users of the log, share that gets an offer, gain against none."""
    profiles = context.store.read(USER_PROFILES).table("user_profiles")
    names = profiles["user_id"].to_pylist(), profiles["segment"].to_pylist()
    segment_of = dict(zip(*names, strict=True))
    segments = [segment_of[user] for user in log.user_ids]
    found = compare_policies_by_segment(
        segments, policy, 0 * policy, log.arm, log.reward, log.propensity, q_hat=log.q_hat,
        groups=log.user_ids, level=level,
    )  # fmt: skip
    offered: dict[str, int] = {}
    for name, arm in zip(segments, policy.tolist(), strict=True):
        offered[name] = offered.get(name, 0) + (arm > 0)
    return [
        {
            "segment": name,
            "n": gain.n,
            "offered_share": offered[name] / gain.n,
            "gain": {
                "value": float(gain.value),
                "low": float(gain.low),
                "high": float(gain.high),
                "ess": float(gain.ess),
                "withheld": gain.withheld,
            },
        }
        for name, gain in found.items()
    ]
