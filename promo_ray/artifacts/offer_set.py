"""Kind `offer_set`: the menu of offers that the design stage chose, and the search's course."""

from __future__ import annotations

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.artifacts.kind import Kind, TableSpec

# documents: `offers` (executable offers of promo_ray.offers in menu order), `search` (history per
# generation, held-out value of menu, of best single offer, of nothing)
OFFER_SET = Kind(
    name="offer_set",
    tables={"offers": TableSpec(schema=OFFER_TERMS)},
    documents=("offers", "search"),
)
