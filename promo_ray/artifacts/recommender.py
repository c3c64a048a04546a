"""Kind `recommender`: popular items, item neighbors and the top items of every user."""

from __future__ import annotations

import pyarrow as pa

from promo_ray.artifacts.columns import required
from promo_ray.artifacts.kind import Kind, TableSpec

POPULAR = pa.schema(
    [
        required("item_id", pa.string()),
        required("window_days", pa.int32()),
        required("n_buyers", pa.int64()),
    ]
)
NEIGHBOURS = pa.schema(
    [
        required("item_id", pa.string()),
        required("neighbor_id", pa.string()),
        required("similarity", pa.float64()),  # in (0, 1]
        required("n_joint", pa.int64()),
    ]
)
TOP = pa.schema([required("user_id", pa.string()), required("item_ids", pa.list_(pa.string()))])

RECOMMENDER = Kind(
    name="recommender",
    tables={
        "popular": TableSpec(schema=POPULAR),
        "neighbors": TableSpec(schema=NEIGHBOURS),
        "top": TableSpec(schema=TOP, is_sharded=True),
    },
    documents=("quality",),
)
