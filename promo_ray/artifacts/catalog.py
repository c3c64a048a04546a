"""Kind `catalog`: the items that can be sold."""

from __future__ import annotations

import pyarrow as pa

from promo_ray.artifacts.columns import FLAG, MONEY, required
from promo_ray.artifacts.kind import Kind, TableSpec

SCHEMA = pa.schema(
    [
        required("item_id", pa.string()),
        required("category", pa.string()),  # path, parts split by " > "
        pa.field("brand", pa.string()),
        pa.field("title", pa.string()),
        pa.field("description", pa.string()),
        required("list_price", MONEY),
        pa.field("unit_cost", MONEY),
        pa.field("stock", pa.int64()),
        required("is_active", FLAG),
    ]
)

CATALOG = Kind(name="catalog", tables={"catalog": TableSpec(schema=SCHEMA)})
