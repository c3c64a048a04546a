"""Lifecycle segment of users by rules on their own rhythm of ordering."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.config import config_class
from promo_ray.errors import ConfigError, DataError

SEGMENTS = ("new", "high_frequency", "low_frequency", "lapsing", "lapsed", "member", "unknown")
_COLUMNS = (
    "n_events",
    "frequency",
    "orders_91d",
    "recency_days",
    "first_order_days",
    "tenure_days",
    "gap_p90_days",
)


@config_class
class Lifecycle:
    """Thresholds of the segments; see `segments`.

    The 90th percentile of a user's own gaps is the rule of thumb for churn without contract
    (Fader and Hardie 2009: silence must be judged against the customer's own rhythm).
    """

    new_days: float = 28.0  # first order (first event without an order) at most this long ago
    min_orders: int = 4  # orders from which the own rhythm counts
    default_gap_days: float = 45.0  # gap expected of users with fewer orders
    min_gap_days: float = 14.0  # own gaps are held between these two
    max_gap_days: float = 180.0
    lapsed_factor: float = 2.0  # expected gaps of silence after which a user has lapsed
    high_orders_91d: int = 6  # orders in the last 91 days from which frequency is high
    member_column: str = "attr_is_member"  # above 0 for members of a loyalty program, if present

    def __post_init__(self) -> None:
        if self.new_days < 0 or self.min_orders < 2 or self.high_orders_91d < 1:
            raise ConfigError(
                "new_days >= 0, min_orders >= 2 and high_orders_91d >= 1 must hold; "
                f"got {self.new_days!r}, {self.min_orders!r}, {self.high_orders_91d!r}"
            )
        if not 0 < self.min_gap_days <= self.max_gap_days or self.default_gap_days <= 0:
            raise ConfigError(
                "0 < min_gap_days <= max_gap_days and default_gap_days > 0 must hold; "
                f"got {self.min_gap_days!r}, {self.max_gap_days!r}, {self.default_gap_days!r}"
            )
        if self.lapsed_factor < 1:
            raise ConfigError(f"lapsed_factor must be >= 1; got {self.lapsed_factor!r}")


def segments(table: pa.Table, config: Lifecycle | None = None) -> list[str]:
    """Segment of each user; the first rule that holds gives it.

    unknown: no event. lapsed: silent for over `lapsed_factor` expected gaps since the last order.
    lapsing: silent for over one expected gap. new: first order, or first event of a user without
    an order, within `new_days`. high_frequency: at least `high_orders_91d` orders in 91 days.
    member: in the loyalty program, where the users table records it. low_frequency: the rest.
    The expected gap is the 90th percentile of the user's own gaps within the bounds, or
    `default_gap_days` with fewer than `min_orders` orders.

    Args:
        table: a table of `user_table`.
        config: thresholds.

    Returns:
        One of `SEGMENTS` per row.

    Raises:
        DataError: a column is missing.
    """
    rules = config or Lifecycle()
    events, orders, orders_91d, silence, since_order, tenure, gap = _columns(table)
    own_gap = np.clip(gap, rules.min_gap_days, rules.max_gap_days)
    expected = np.where(orders >= rules.min_orders, own_gap, rules.default_gap_days)
    is_member = np.zeros(table.num_rows, dtype=bool)
    if rules.member_column in table.column_names:
        is_member = table.column(rules.member_column).cast(pa.float64()).to_numpy() > 0
    # silence is NaN without an order, so its comparisons are false there
    rule_of = {
        "unknown": events == 0,
        "lapsed": silence > rules.lapsed_factor * expected,
        "lapsing": silence > expected,
        "new": np.where(orders > 0, since_order, tenure) <= rules.new_days,
        "high_frequency": orders_91d >= rules.high_orders_91d,
        "member": is_member,
    }
    chosen: list[str] = np.select(
        list(rule_of.values()), list(rule_of), default="low_frequency"
    ).tolist()
    return chosen


def _columns(table: pa.Table) -> list[NDArray[np.float64]]:
    for name in _COLUMNS:
        if name not in table.column_names:
            raise DataError(f"column {name!r} must be present", where="segments")
    return [table.column(c).to_numpy().astype(np.float64) for c in _COLUMNS]
