"""Kind `campaign_log`: who was shown which offer with what probability, and what came of it."""

from __future__ import annotations

import pyarrow as pa

from promo_ray.artifacts.columns import FLAG, MONEY, OFFER_TERMS, TIME, required
from promo_ray.artifacts.kind import Kind, TableSpec

SCHEMA = pa.schema(
    [
        required("user_id", pa.string()),
        pa.field("offer_id", pa.string()),  # null = control
        required("exposed_at", TIME),
        pa.field("propensity", pa.float64()),  # P(this arm) in (0, 1]; null = not a known design
        pa.field("channel", pa.string()),
        pa.field("is_visit", FLAG),
        pa.field("is_conversion", FLAG),
        pa.field("revenue", MONEY),  # in the window, after discounts
        pa.field("margin", MONEY),  # revenue less cost of goods; contact cost not yet taken off
        pa.field("cost", MONEY),  # discount that the offer gave away in the window
        required("window_s", pa.float64()),  # length of the outcome window
    ]
)

# document `design`: {"is_randomized": bool, "outcome": one of is_visit is_conversion revenue
# margin, "unit": str, "currency": str, "control_propensity": float or null, "note": str}
CAMPAIGN_LOG = Kind(
    name="campaign_log",
    tables={
        "campaign_log": TableSpec(schema=SCHEMA, is_sharded=True),
        "offers": TableSpec(schema=OFFER_TERMS),
    },
    documents=("design",),
)
