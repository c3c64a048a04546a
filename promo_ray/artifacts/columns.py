"""Arrow types that several kinds share, and the table of offer terms."""

from __future__ import annotations

import pyarrow as pa

MONEY = pa.float64()
TIME = pa.timestamp("us", tz="UTC")
FLAG = pa.bool_()


def required(name: str, kind: pa.DataType) -> pa.Field:
    """Column that must have no null."""
    return pa.field(name, kind, nullable=False)


# An offer in analytics: mechanic and parameters, one row per offer. `promo_ray.offers` holds the
# executable form in integer money. Columns that a mechanic does not use are null.
OFFER_TERMS = pa.schema(
    [
        required("offer_id", pa.string()),
        # percent_off, amount_off, spend_threshold, product_bundle, or message (no price change)
        required("mechanic", pa.string()),
        pa.field("depth_rate", pa.float64()),  # share off the price in [0, 1]: percent_off, bundle
        pa.field("amount", MONEY),  # currency units off: amount_off, spend_threshold
        pa.field("threshold", MONEY),  # smallest basket in currency units: spend_threshold
        pa.field("scope", pa.string()),  # category path it applies to; null = the whole basket
        pa.field("item_ids", pa.list_(pa.string())),  # product_bundle: its items
        required("contact_cost", MONEY),  # currency units to send the offer to one user
        required("label", pa.string()),  # a few plain words
    ]
)
