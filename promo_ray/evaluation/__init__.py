"""What a policy earned: estimators with intervals, curves, checks, the report."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promo_ray.evaluation.ab import AbTest, ab_test, ab_test_over_blocks
    from promo_ray.evaluation.ab_adjust import cupac, cuped
    from promo_ray.evaluation.ab_moments import AbRows
    from promo_ray.evaluation.ab_segments import effects_by_segment
    from promo_ray.evaluation.ab_sequential import SequentialTest, sequential_test
    from promo_ray.evaluation.ab_windows import effects_over_time, window_outcomes
    from promo_ray.evaluation.multiple import adjust_p_values
    from promo_ray.evaluation.power import (
        Plan,
        baseline,
        detection_power,
        minimum_detectable_effect,
        sample_size,
    )
    from promo_ray.evaluation.srm import sample_ratio, sample_ratio_by_segment

__all__ = [
    "AbRows",
    "AbTest",
    "Plan",
    "SequentialTest",
    "ab_test",
    "ab_test_over_blocks",
    "adjust_p_values",
    "baseline",
    "cupac",
    "cuped",
    "detection_power",
    "effects_by_segment",
    "effects_over_time",
    "minimum_detectable_effect",
    "sample_ratio",
    "sample_ratio_by_segment",
    "sample_size",
    "sequential_test",
    "window_outcomes",
]

_HOME = {
    "ab": ("AbTest", "ab_test", "ab_test_over_blocks"),
    "ab_adjust": ("cupac", "cuped"),
    "ab_moments": ("AbRows",),
    "ab_segments": ("effects_by_segment",),
    "ab_sequential": ("SequentialTest", "sequential_test"),
    "ab_windows": ("effects_over_time", "window_outcomes"),
    "multiple": ("adjust_p_values",),
    "power": (
        "Plan",
        "baseline",
        "detection_power",
        "minimum_detectable_effect",
        "sample_size",
    ),
    "srm": ("sample_ratio", "sample_ratio_by_segment"),
}


def __getattr__(name: str) -> Any:
    """Load a name on first use."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
