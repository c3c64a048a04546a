"""Kind `evaluation`: what the policy is worth, by which estimator, with the report to read."""

from __future__ import annotations

import pyarrow as pa

from promo_ray.artifacts.columns import required
from promo_ray.artifacts.kind import Kind, TableSpec

CURVES = pa.schema(
    [
        required("curve", pa.string()),  # uplift, gain, calibration
        required("series", pa.string()),  # offer or policy
        required("x", pa.float64()),
        required("y", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
    ]
)

# documents: `estimates`, `checks`; text `report.html`
EVALUATION = Kind(
    name="evaluation",
    tables={"curves": TableSpec(schema=CURVES)},
    documents=("estimates", "checks"),
)
