"""Kind `response_model`: how outcome and cost respond to offers, as tensors and JSON."""

from __future__ import annotations

import pyarrow as pa

from promo_ray.artifacts.columns import OFFER_TERMS, required
from promo_ray.artifacts.kind import Kind, TableSpec

# Out-of-fold predictions for every row of the campaign log that was used, tried offers in the
# order of table `offers`; a user's row comes from models that never saw the user.
OUT_OF_FOLD = pa.schema(
    [
        required("user_id", pa.string()),
        required("fold", pa.int8()),
        required("arm", pa.int32()),  # 0 = control, j + 1 = offer j
        required("outcome", pa.float64()),
        required("cost", pa.float64()),  # discount given, currency units
        required("propensity", pa.float64()),  # of the arm, known or estimated
        required("effect", pa.list_(pa.float64())),  # (m,) outcome units against control
        required("expected_cost", pa.list_(pa.float64())),  # (m,) discount, currency units
        required("mean_outcome", pa.list_(pa.float64())),  # (m + 1,) nuisance, arm 0 = control
    ]
)

# documents: `model` (see promo_ray.response.model), `quality` (out-of-fold measures);
# tensors `model`
RESPONSE_MODEL = Kind(
    name="response_model",
    tables={"offers": TableSpec(schema=OFFER_TERMS), "out_of_fold": TableSpec(schema=OUT_OF_FOLD)},
    documents=("model", "quality"),
)
