"""Kind `assignment`: who gets which offer, with the prices that decide it and the certificate."""

from __future__ import annotations

import pyarrow as pa

from promo_ray.artifacts.columns import required
from promo_ray.artifacts.kind import Kind, TableSpec

SCHEMA = pa.schema(
    [
        required("user_id", pa.string()),
        pa.field("offer_id", pa.string()),  # null = no offer
        required("slot", pa.int32()),  # column of the menu, -1 = no offer
        required("value", pa.float64()),
        required("cost", pa.float64()),  # use of the first budget
    ]
)

# document `solution`: {"offer_ids", "budget_names", "budgets", "used", "prices", "value",
# "bound", "gap", "n_passes", "n_split_users", "converged"}
ASSIGNMENT = Kind(
    name="assignment",
    tables={"assignment": TableSpec(schema=SCHEMA, is_sharded=True)},
    documents=("solution",),
)
