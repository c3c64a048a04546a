"""Own-price elasticities, guarded price plans, and the search of their hyperparameters."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promo_ray.pricing.demand import holdout_loss, rolling_losses, units_at
    from promo_ray.pricing.elasticity import ElasticityTable, fit_elasticity
    from promo_ray.pricing.panel import (
        WeeklyPanel,
        merge_weekly_sales,
        panel_of,
        weekly_sales,
    )
    from promo_ray.pricing.params import PricingParams
    from promo_ray.pricing.plan import PriceGuardrails, plan_prices
    from promo_ray.pricing.tuning import SearchSpace, TuningResult, tune_serial

__all__ = [
    "ElasticityTable",
    "PriceGuardrails",
    "PricingParams",
    "SearchSpace",
    "TuningResult",
    "WeeklyPanel",
    "fit_elasticity",
    "holdout_loss",
    "merge_weekly_sales",
    "panel_of",
    "plan_prices",
    "rolling_losses",
    "tune_serial",
    "units_at",
    "weekly_sales",
]

_HOME = {
    "ElasticityTable": "elasticity",
    "PriceGuardrails": "plan",
    "PricingParams": "params",
    "SearchSpace": "tuning",
    "TuningResult": "tuning",
    "WeeklyPanel": "panel",
    "fit_elasticity": "elasticity",
    "holdout_loss": "demand",
    "merge_weekly_sales": "panel",
    "panel_of": "panel",
    "plan_prices": "plan",
    "rolling_losses": "demand",
    "tune_serial": "tuning",
    "units_at": "demand",
    "weekly_sales": "panel",
}


def __getattr__(name: str) -> Any:
    """Load a name on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
