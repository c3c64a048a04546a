"""Kind `events`: what users did, one row per event line, sharded by user."""

from __future__ import annotations

import pyarrow as pa

from promo_ray.artifacts.columns import MONEY, TIME, required
from promo_ray.artifacts.kind import Kind, TableSpec

EVENT_TYPES = ("view", "click", "search", "cart", "purchase", "return", "review")

SCHEMA = pa.schema(
    [
        required("user_id", pa.string()),
        required("item_id", pa.string()),
        required("event_type", pa.string()),  # one of EVENT_TYPES
        required("at", TIME),
        required("quantity", pa.int32()),  # units, >= 0
        required("unit_price", MONEY),  # currency units per unit after `discount`
        pa.field("discount", MONEY),  # currency units off the whole line, >= 0
        pa.field("channel", pa.string()),
        pa.field("session_id", pa.string()),
        pa.field("order_id", pa.string()),
        pa.field("rating", pa.float32()),
        pa.field("text", pa.string()),
        pa.field("offer_id", pa.string()),
    ]
)

EVENTS = Kind(
    name="events",
    tables={"events": TableSpec(schema=SCHEMA, prefixes=("is_missing_",), is_sharded=True)},
    documents=("quality",),
)
