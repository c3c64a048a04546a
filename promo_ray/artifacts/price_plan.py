"""Kind `price_plan`: elasticity and proposed list price of every item, and the tuning trials."""

from __future__ import annotations

import pyarrow as pa

from promo_ray.artifacts.columns import MONEY, required
from promo_ray.artifacts.kind import Kind, TableSpec

PLAN = pa.schema(
    [
        required("item_id", pa.string()),
        required("category", pa.string()),
        required("elasticity", pa.float64()),  # d ln q / d ln p after pooling
        required("elasticity_se", pa.float64()),
        required("n_weeks", pa.int32()),  # item-weeks behind the estimate
        required("old_price", MONEY),
        required("new_price", MONEY),
        pa.field("unit_cost", MONEY),
        required("weekly_units", pa.float64()),  # at the old price
        required("profit_change", MONEY),  # expected, per week
        required("reason", pa.string()),  # what bound or why unchanged
    ]
)

TRIALS = pa.schema(
    [
        required("trial", pa.int32()),
        required("config", pa.string()),  # JSON
        required("loss", pa.float64()),  # held-out weighted absolute percentage error, a rate
        required("n_iter", pa.int32()),
    ]
)

PRICE_PLAN = Kind(
    name="price_plan",
    tables={"plan": TableSpec(schema=PLAN), "trials": TableSpec(schema=TRIALS)},
    documents=("summary",),
)
