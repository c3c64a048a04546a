"""Kind `candidates`: value and budget use of every offer of the menu for every user, sharded."""

from __future__ import annotations

import pyarrow as pa

from promo_ray.artifacts.columns import required
from promo_ray.artifacts.kind import Kind, TableSpec

SCHEMA = pa.schema(
    [
        required("user_id", pa.string()),
        required("segment_idx", pa.int32()),
        # value[j]: expected incremental outcome of offer j after its costs; -inf = not eligible
        required("value", pa.list_(pa.float32())),
        # cost[k * m + j]: expected use of budget k by offer j, >= 0
        required("cost", pa.list_(pa.float32())),
    ]
)

# document `menu`: {"offer_ids": [...], "budget_names": [...], "budgets": [...], "segments": [...]}
CANDIDATES = Kind(
    name="candidates",
    tables={"candidates": TableSpec(schema=SCHEMA, is_sharded=True)},
    documents=("menu",),
)
