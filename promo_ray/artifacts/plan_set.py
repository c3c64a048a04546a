"""Kind `plan_set`: menus of lifecycle plans, how they are measured, and who gets which offer."""

from __future__ import annotations

import pyarrow as pa

from promo_ray.artifacts.columns import FLAG, required
from promo_ray.artifacts.kind import Kind, TableSpec

SCHEMA = pa.schema(
    [
        required("plan", pa.string()),
        required("user_id", pa.string()),
        pa.field("offer_id", pa.string()),  # null = no offer
        required("is_held_out", FLAG),  # of the audience, but gets nothing, to be measured by
    ]
)

# document `plans`: {"plans": [names], "skipped": [{"plan", "why"}]}; one document `plan-NAME` per
# plan, see `promo_ray.design.plans.PlannedMenu.document`
PLAN_SET = Kind(
    name="plan_set",
    tables={"members": TableSpec(schema=SCHEMA, is_sharded=True)},
    documents=("plans",),
)
