"""Kind `response_model`: how outcome and cost respond to offers, as tensors and JSON."""

from __future__ import annotations

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.artifacts.kind import Kind, TableSpec

# documents: `surface` (see promo_ray.response.surface), `quality` (out-of-fold measures);
# tensors `surface`
RESPONSE_MODEL = Kind(
    name="response_model",
    tables={"offers": TableSpec(schema=OFFER_TERMS)},
    documents=("surface", "quality"),
)
