"""Kind `user_profiles`: one row per user, sharded; what models see and what reports show.

Columns `x_*` (float64, never null) are the features of models; the names in order stand in the
document `features`. `segment` is the lifecycle segment, `cluster` the k-means cluster.
"""

from __future__ import annotations

import pyarrow as pa

from promo_ray.artifacts.columns import MONEY, required
from promo_ray.artifacts.kind import Kind, TableSpec

SCHEMA = pa.schema(
    [
        required("user_id", pa.string()),
        # new, high_frequency, low_frequency, lapsing, lapsed, member; unknown without events
        required("segment", pa.string()),
        required("cluster", pa.int32()),
        pa.field("recency_days", pa.float64()),  # days since the last order
        pa.field("frequency", pa.int32()),  # orders in the history
        pa.field("monetary", MONEY),  # spend per order, currency units
        pa.field("basket_median", MONEY),  # median order value, currency units
        pa.field("deal_share", pa.float64()),  # share of spend bought at a discount, [0, 1]
        pa.field("price_sensitivity", pa.float64()),  # shrunken slope, <= 0 is sensitive
        pa.field("r_quintile", pa.int8()),  # 1 (worst) to 5 (best)
        pa.field("f_quintile", pa.int8()),
        pa.field("m_quintile", pa.int8()),
    ]
)

# document `features`: {"names": [...], "as_of": ISO time or null, ...}; `segments`: report data;
# tensors `models`: RFM edges, k-means centers and PCA axes, to describe further users alike
USER_PROFILES = Kind(
    name="user_profiles",
    tables={"user_profiles": TableSpec(schema=SCHEMA, prefixes=("x_", "pc_"), is_sharded=True)},
    documents=("features", "segments"),
)
