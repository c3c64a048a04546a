"""What is wrong with events before they are cleaned, counted; nothing is changed here.

Reports of shards merge, provided that no user stands in two shards. Time order is that of the rows
as given, so it is counted before `shard_table` sorts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promo_ray.artifacts.events import SCHEMA
from promo_ray.errors import ConfigError

WINSORISED = ("unit_price", "quantity")
SALES = ("purchase", "return")  # event types whose quantity and price count
_REPORT_RATE = 0.001  # two-sided quantile whose outside counts as an outlier in reports

Bounds = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """Counts over events; all in rows unless said otherwise.

    Attributes:
        n_rows: rows.
        n_users: distinct users, null not counted.
        item_ids: distinct items.
        unknown_item_ids: distinct items that the catalog lacks; empty without a catalog.
        n_unknown_items: rows of such items.
        missing: nulls by column; for an optional column that is empty throughout, all rows.
        n_duplicates: rows equal to an earlier row in every column.
        impossible: rows by fault, see `impossible_rows`.
        n_free: purchases at a price of 0; allowed, gifts and full coupons do that.
        n_out_of_order: rows earlier than the row of the same user before them.
        n_purchases: purchase rows.
        n_returns: return rows.
        first_at: earliest event, None if there is none.
        last_at: latest event.
        outliers: purchase and return rows below and above `bounds` by column.
        bounds: lower and upper bound by column, see `winsor_bounds`.
    """

    n_rows: int
    n_users: int
    item_ids: frozenset[str] = field(repr=False)
    unknown_item_ids: frozenset[str] = field(repr=False)
    n_unknown_items: int
    missing: Mapping[str, int]
    n_duplicates: int
    impossible: Mapping[str, int]
    n_free: int
    n_out_of_order: int
    n_purchases: int
    n_returns: int
    first_at: datetime | None
    last_at: datetime | None
    outliers: Mapping[str, tuple[int, int]]
    bounds: Bounds

    @property
    def return_share(self) -> float:
        """Returns among purchases and returns, in [0, 1]; 0 if there is neither."""
        return self.n_returns / max(1, self.n_purchases + self.n_returns)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; items as counts."""
        return {
            "n_rows": self.n_rows,
            "n_users": self.n_users,
            "n_items": len(self.item_ids),
            "n_items_not_in_catalog": len(self.unknown_item_ids),
            "n_rows_not_in_catalog": self.n_unknown_items,
            "missing": dict(self.missing),
            "n_duplicates": self.n_duplicates,
            "impossible": dict(self.impossible),
            "n_free": self.n_free,
            "n_out_of_order": self.n_out_of_order,
            "n_purchases": self.n_purchases,
            "n_returns": self.n_returns,
            "return_share": self.return_share,
            "first_at": None if self.first_at is None else self.first_at.isoformat(),
            "last_at": None if self.last_at is None else self.last_at.isoformat(),
            "outliers": {k: {"below": a, "above": b} for k, (a, b) in self.outliers.items()},
            "bounds": {k: [a, b] for k, (a, b) in self.bounds.items()},
        }


def check_quality(
    events: pa.Table, catalog: pa.Table | None = None, *, bounds: Bounds | None = None
) -> QualityReport:
    """Count the faults of events.

    Args:
        events: table with the columns of `events`; nulls allowed everywhere.
        catalog: table with `item_id`, to look for items that it lacks.
        bounds: outside these a value is an outlier; the 0.1 % and 99.9 % quantiles of these
            events if None. Shards that are to be merged need common bounds.
    """
    bounds = winsor_bounds(events, _REPORT_RATE) if bounds is None else bounds
    items = events.column("item_id")
    unknown = pa.chunked_array([pa.nulls(0, pa.string())])
    if catalog is not None:
        is_known = pc.is_in(items, value_set=catalog.column("item_id").combine_chunks())
        unknown = items.filter(pc.and_(items.is_valid(), pc.invert(is_known)))
    is_type = {k: pc.equal(events.column("event_type"), k) for k in ("purchase", "return")}
    span = pc.min_max(events.column("at")).as_py()
    free = pc.and_kleene(is_type["purchase"], pc.equal(events.column("unit_price"), 0.0))
    return QualityReport(
        n_rows=events.num_rows,
        n_users=pc.count_distinct(events.column("user_id"), mode="only_valid").as_py(),
        item_ids=frozenset(pc.unique(items.drop_null()).to_pylist()),
        unknown_item_ids=frozenset(pc.unique(unknown).to_pylist()),
        n_unknown_items=len(unknown),
        missing={name: events.column(name).null_count for name in SCHEMA.names},
        n_duplicates=int(duplicate_rows(events).sum()),
        impossible={k: _count(v) for k, v in impossible_rows(events).items()},
        n_free=_count(free),
        n_out_of_order=_out_of_order(events),
        n_purchases=_count(is_type["purchase"]),
        n_returns=_count(is_type["return"]),
        first_at=span["min"],
        last_at=span["max"],
        outliers=_outliers(events, bounds),
        bounds=dict(bounds),
    )


def merge(a: QualityReport, b: QualityReport) -> QualityReport:
    """Report of two sets of events without a common user.

    Raises:
        ConfigError: the reports were made with different bounds.
    """
    if dict(a.bounds) != dict(b.bounds):
        raise ConfigError("quality reports must share their bounds to be merged")
    firsts = [r.first_at for r in (a, b) if r.first_at is not None]
    lasts = [r.last_at for r in (a, b) if r.last_at is not None]
    return QualityReport(
        n_rows=a.n_rows + b.n_rows,
        n_users=a.n_users + b.n_users,
        item_ids=a.item_ids | b.item_ids,
        unknown_item_ids=a.unknown_item_ids | b.unknown_item_ids,
        n_unknown_items=a.n_unknown_items + b.n_unknown_items,
        missing={k: v + b.missing[k] for k, v in a.missing.items()},
        n_duplicates=a.n_duplicates + b.n_duplicates,
        impossible={k: v + b.impossible[k] for k, v in a.impossible.items()},
        n_free=a.n_free + b.n_free,
        n_out_of_order=a.n_out_of_order + b.n_out_of_order,
        n_purchases=a.n_purchases + b.n_purchases,
        n_returns=a.n_returns + b.n_returns,
        first_at=min(firsts, default=None),
        last_at=max(lasts, default=None),
        outliers={
            k: (v[0] + b.outliers[k][0], v[1] + b.outliers[k][1]) for k, v in a.outliers.items()
        },
        bounds=a.bounds,
    )


def impossible_rows(events: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Flags of rows by fault; null where a value is missing.

    `negative_quantity`; `zero_quantity` of a purchase or return; `negative_price`;
    `negative_discount`; `discount_above_line`, a discount on a line worth less before it
    (`unit_price` is net of discount, so that is one on no units or at a negative price).
    """
    quantity, price = events.column("quantity"), events.column("unit_price")
    discount = events.column("discount")
    is_sale = is_sale_row(events)
    worthless = pc.or_kleene(pc.less_equal(quantity, 0), pc.less(price, 0.0))
    return {
        "negative_quantity": pc.less(quantity, 0),
        "zero_quantity": pc.and_kleene(is_sale, pc.equal(quantity, 0)),
        "negative_price": pc.less(price, 0.0),
        "negative_discount": pc.less(discount, 0.0),
        "discount_above_line": pc.and_kleene(
            is_sale, pc.and_kleene(pc.greater(discount, 0.0), worthless)
        ),
    }


def is_sale_row(events: pa.Table) -> pa.ChunkedArray:
    """Flags of purchases and returns."""
    return pc.is_in(events.column("event_type"), pa.array(SALES))


def duplicate_rows(events: pa.Table) -> NDArray[np.bool_]:
    """`(n,)` flags of rows that equal an earlier row in every column; nulls equal nulls."""
    flags = np.ones(events.num_rows, np.bool_)
    numbered = events.append_column("first row", pa.array(np.arange(events.num_rows)))
    groups = numbered.group_by(events.column_names, use_threads=False)
    first = groups.aggregate([("first row", "min")]).column("first row_min")
    flags[first.to_numpy()] = False
    return flags


def winsor_bounds(events: pa.Table, rate: float) -> dict[str, tuple[float, float]]:
    """Quantiles `rate` and `1 - rate` of unit price and quantity over purchases and returns.

    Values, not interpolations between them, so that bounds of counts are counts. Taken over all
    events of a data set, not over a shard.

    Args:
        events: table with the columns of `events`.
        rate: share below the lower and above the upper bound, in [0, 0.5).

    Returns:
        (lower, upper) by column; a column without values is left out.

    Raises:
        ConfigError: rate is out of range.
    """
    if not 0.0 <= rate < 0.5:
        raise ConfigError(f"winsor rate must lie in [0, 0.5); got {rate!r}")
    is_sale = is_sale_row(events)
    bounds = {}
    for name in WINSORISED:
        values = events.column(name).filter(is_sale).drop_null().to_numpy()
        if len(values):
            low = np.quantile(values, rate, method="inverted_cdf")
            high = np.quantile(values, 1.0 - rate, method="inverted_cdf")
            bounds[name] = (float(low), float(high))
    return bounds


def _outliers(events: pa.Table, bounds: Bounds) -> dict[str, tuple[int, int]]:
    is_sale = is_sale_row(events)
    counts = {}
    for name, (low, high) in bounds.items():
        values = events.column(name).filter(is_sale)
        counts[name] = (_count(pc.less(values, low)), _count(pc.greater(values, high)))
    return counts


def _out_of_order(events: pa.Table) -> int:
    known = events.select(["user_id", "at"]).drop_null()
    user = codes_of(known.column("user_id"))
    order = np.argsort(user, kind="stable")
    at = known.column("at").cast(pa.int64()).to_numpy()[order]
    user = user[order]
    return int(((user[1:] == user[:-1]) & (at[1:] < at[:-1])).sum())


def codes_of(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """`(n,)` int64 numbers of the distinct values of a column as they appear; null is -1."""
    codes = column.combine_chunks().dictionary_encode().indices.fill_null(-1)
    return np.asarray(codes.to_numpy(zero_copy_only=False)).astype(np.int64)


def _count(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py() or 0)
