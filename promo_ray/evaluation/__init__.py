"""What a policy earned: tests, estimators with intervals, curves, checks, the report."""

# Not lazily: `policy_value`, `calibration` and `report` are functions here and modules below, and
# the functions must win.
from promo_ray.evaluation.ab import AbTest, ab_test, ab_test_over_blocks
from promo_ray.evaluation.ab_adjust import cupac, cuped
from promo_ray.evaluation.ab_moments import AbRows
from promo_ray.evaluation.ab_segments import effects_by_segment
from promo_ray.evaluation.ab_sequential import SequentialTest, sequential_test
from promo_ray.evaluation.ab_windows import effects_over_time, window_outcomes
from promo_ray.evaluation.betting_bound import lower_bound
from promo_ray.evaluation.calibration import Calibration, calibration
from promo_ray.evaluation.checks import Check, effective_sample, overlap
from promo_ray.evaluation.curves import auuc, qini, qini_curve, uplift_at
from promo_ray.evaluation.multiple import adjust_p_values
from promo_ray.evaluation.off_policy_stream import LogBlock, stream_policy_value
from promo_ray.evaluation.policy_segments import compare_policies_by_segment
from promo_ray.evaluation.policy_value import PolicyEstimate, compare_policies, policy_value
from promo_ray.evaluation.power import (
    Plan,
    baseline,
    detection_power,
    minimum_detectable_effect,
    sample_size,
)
from promo_ray.evaluation.report_results import report
from promo_ray.evaluation.safe_release import Release, release_gate
from promo_ray.evaluation.spend_curve import GainCurve, gain_curve
from promo_ray.evaluation.srm import sample_ratio, sample_ratio_by_segment

__all__ = [
    "AbRows",
    "AbTest",
    "Calibration",
    "Check",
    "GainCurve",
    "LogBlock",
    "Plan",
    "PolicyEstimate",
    "Release",
    "SequentialTest",
    "ab_test",
    "ab_test_over_blocks",
    "adjust_p_values",
    "auuc",
    "baseline",
    "calibration",
    "compare_policies",
    "compare_policies_by_segment",
    "cupac",
    "cuped",
    "detection_power",
    "effective_sample",
    "effects_by_segment",
    "effects_over_time",
    "gain_curve",
    "lower_bound",
    "minimum_detectable_effect",
    "overlap",
    "policy_value",
    "qini",
    "qini_curve",
    "release_gate",
    "report",
    "sample_ratio",
    "sample_ratio_by_segment",
    "sample_size",
    "sequential_test",
    "stream_policy_value",
    "uplift_at",
    "window_outcomes",
]
