"""Kind `users`: every known user, attributes and consent, sharded.

Columns named `attr_*` (float64 or string) are known before any campaign and may be used by
models; `protected_*` are for audits only and never reach a model.
"""

from __future__ import annotations

import pyarrow as pa

from promo_ray.artifacts.columns import FLAG, required
from promo_ray.artifacts.kind import Kind, TableSpec

SCHEMA = pa.schema(
    [required("user_id", pa.string()), pa.field("is_consenting", FLAG)]  # null = not recorded
)

# document `shards`: {"n_blocks": 1024, "n_shards": S, "n_users": n}
USERS = Kind(
    name="users",
    tables={"users": TableSpec(schema=SCHEMA, prefixes=("attr_", "protected_"), is_sharded=True)},
    documents=("shards",),
)
