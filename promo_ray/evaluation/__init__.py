"""What a policy earned: estimators with intervals, curves, checks, the report."""

# Not lazily: `policy_value` is a function here and a module below, and the function must win.
from promo_ray.evaluation.betting_bound import lower_bound
from promo_ray.evaluation.off_policy_stream import LogBlock, stream_policy_value
from promo_ray.evaluation.policy_value import PolicyEstimate, compare_policies, policy_value
from promo_ray.evaluation.safe_release import Release, release_gate
from promo_ray.evaluation.spend_curve import GainCurve, gain_curve

__all__ = [
    "GainCurve",
    "LogBlock",
    "PolicyEstimate",
    "Release",
    "compare_policies",
    "gain_curve",
    "lower_bound",
    "policy_value",
    "release_gate",
    "stream_policy_value",
]
