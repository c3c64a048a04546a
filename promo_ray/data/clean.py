"""Cleaning of events by a policy per fault; every change is counted.

Order: duplicates go, negative quantities are dealt with, impossible values are dealt with, missing
values are dealt with, extremes are pulled in. Bounds and medians are those of the whole data set
and are passed in, so that a shard is cleaned the same way wherever it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promo_ray.artifacts.events import EVENTS, SCHEMA
from promo_ray.config import config_class
from promo_ray.data.quality import (
    Bounds,
    duplicate_rows,
    impossible_rows,
    is_sale_row,
    winsor_bounds,
)
from promo_ray.errors import ConfigError, DataError

Missing = Literal["fail", "drop", "fill", "indicator", "keep"]
FILLABLE = ("quantity", "unit_price", "discount", "rating")
_ROW = "row"  # number of the row in the input, from 1, for errors; gone from the result
_FLOORS = {"quantity": 1.0, "unit_price": 0.0, "discount": 0.0}  # least values that may fill
_REQUIRED = tuple(f.name for f in SCHEMA if not f.nullable)
_IMPOSSIBLE_IN = {
    "zero_quantity": "quantity",
    "negative_price": "unit_price",
    "negative_discount": "discount",
    "discount_above_line": "discount",
}


@config_class
class CleanPolicy:
    """What to do with each fault of events.

    Attributes:
        missing: by column: `fail`; `drop` the row; `fill` with the median of the item, else of
            its category, else of all; `indicator`: fill and add a flag `is_missing_<column>`;
            `keep` the null (optional columns only). Unnamed required columns fail, unnamed
            optional ones keep. Only quantity, unit_price, discount and rating can be filled.
        negative_quantity: `fail`, `drop`, or `return`: a purchase of -2 is a return of 2.
        impossible: zero quantities sold, negative prices and discounts, discounts on nothing:
            `fail`, `drop`, or `missing`: treat the value as missing.
        duplicates: rows equal in every column: `fail`, `drop` all but the first, or `keep`.
        winsor_rate: unit prices and quantities of purchases and returns outside the quantiles
            `winsor_rate` and `1 - winsor_rate` are set to these, in [0, 0.5); 0 changes nothing.
    """

    missing: Mapping[str, Missing] = field(default_factory=dict)
    negative_quantity: Literal["fail", "drop", "return"] = "fail"
    impossible: Literal["fail", "drop", "missing"] = "fail"
    duplicates: Literal["fail", "drop", "keep"] = "drop"
    winsor_rate: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.winsor_rate < 0.5:
            raise ConfigError(f"winsor_rate must lie in [0, 0.5); got {self.winsor_rate!r}")
        for name, action in self.missing.items():
            if name not in SCHEMA.names:
                known = ", ".join(SCHEMA.names)
                raise ConfigError(f"missing must name columns of events; got {name!r}; {known}")
            if action in ("fill", "indicator") and name not in FILLABLE:
                can = ", ".join(FILLABLE)
                raise ConfigError(f"only {can} can be filled; got {name!r}: {action!r}")
            if action == "keep" and name in _REQUIRED:
                raise ConfigError(f"required column {name!r} cannot keep nulls")


class Medians(NamedTuple):
    """Fill values over purchases and returns with a value.

    Attributes:
        by_item: columns item_id, category and each of `FILLABLE`, float64, null where unknown;
            items of the catalog and of the events.
        by_category: columns category and each of `FILLABLE`; items outside the catalog are in
            category "".
        overall: median by column, None if nothing is known.
    """

    by_item: pa.Table
    by_category: pa.Table
    overall: Mapping[str, float | None]


def fill_medians(events: pa.Table, catalog: pa.Table | None = None) -> Medians:
    """Medians of the fillable columns by item, by category and over all, impossible ones left out.

    Args:
        events: all events of the data set, before cleaning.
        catalog: gives the category of items; without it there is one category.
    """
    sold = events.filter(is_sale_row(events)).select(["item_id", *FILLABLE])
    sold = sold.filter(sold.column("item_id").is_valid())
    parts = [sold.column("item_id").combine_chunks()]
    if catalog is not None:
        parts.append(catalog.column("item_id").combine_chunks())
    items = pc.unique(pa.chunked_array(parts))
    category = pa.array([""] * len(items), pa.string())
    if catalog is not None:
        place = pc.index_in(items, catalog.column("item_id").combine_chunks())
        known = catalog.column("category").combine_chunks().take(place)
        category = pc.fill_null(known, "")
    categories = pc.unique(category)
    item = pc.index_in(sold.column("item_id"), items).to_numpy().astype(np.int64)
    group = pc.index_in(category, categories).to_numpy().astype(np.int64)
    by_item: dict[str, Any] = {"item_id": items, "category": category}
    by_category: dict[str, Any] = {"category": categories}
    overall: dict[str, float | None] = {}
    for name in FILLABLE:
        values = _possible(sold, name)
        by_item[name] = _medians(item, values, len(items))
        by_category[name] = _medians(group[item], values, len(categories))
        overall[name] = _medians(np.zeros(len(item), np.int64), values, 1)[0].as_py()
    return Medians(pa.table(by_item), pa.table(by_category), overall)


def _possible(sold: pa.Table, name: str) -> NDArray[np.float64]:
    """`(n,)` float64 values of a column, NaN where missing or impossible."""
    values = np.asarray(sold.column(name).cast(pa.float64()).to_numpy(), dtype=np.float64)
    floor = _FLOORS.get(name)
    return values if floor is None else np.where(values >= floor, values, np.nan)


def _medians(group: NDArray[np.int64], values: NDArray[np.float64], n_groups: int) -> pa.Array:
    """`(n_groups,)` float64 medians of the values of each group, NaN left out; null if none."""
    known = ~np.isnan(values)
    group, values = group[known], values[known]
    order = np.lexsort((values, group))
    values = np.append(values[order], np.nan)
    count = np.bincount(group, minlength=n_groups)
    start = np.cumsum(count) - count
    low = np.where(count > 0, start + (count - 1) // 2, len(values) - 1)
    high = np.where(count > 0, start + count // 2, len(values) - 1)
    return pa.array((values[low] + values[high]) / 2.0, mask=count == 0)


def clean(
    events: pa.Table,
    policy: CleanPolicy | None = None,
    bounds: Bounds | None = None,
    medians: Medians | None = None,
    *,
    where: str = "events",
) -> tuple[pa.Table, dict[str, int]]:
    """Events that meet the schema, and how many rows each step touched.

    Args:
        events: table with the columns of `events`; nulls allowed.
        policy: what to do; the default policy if None.
        bounds: limits of `winsor_rate` from `winsor_bounds` over all events; from these if None.
        medians: fill values from `fill_medians` over all events; from these if None.
        where: file or shard, for errors.

    Returns:
        The table in its order of rows, and counts by step, for example `dropped_duplicates`,
        `dropped_missing_unit_price`, `filled_discount`, `returns_from_negative_quantity`,
        `winsorized_quantity`; steps that touched nothing are left out.

    Raises:
        DataError: a fault whose policy is `fail`, or a value that cannot be filled.
    """
    policy = policy or CleanPolicy()
    if policy.winsor_rate and bounds is None:
        bounds = winsor_bounds(events, policy.winsor_rate)
    fills = [n for n in FILLABLE if policy.missing.get(n) in ("fill", "indicator")]
    if fills and medians is None:
        medians = fill_medians(events)
    counts: dict[str, int] = {}
    events = _duplicates(events, policy, counts, where)
    events = _negative_quantity(events, policy, counts, where)
    events = _impossible(events, policy, counts, where)
    for name in SCHEMA.names:
        action = policy.missing.get(name, "fail" if name in _REQUIRED else "keep")
        events = _missing(events, name, action, medians, counts, where)
    if policy.winsor_rate and bounds is not None:
        events = _winsorize(events, bounds, counts)
    events = EVENTS.tables["events"].conform(events.drop_columns([_ROW]), where)
    return events, {k: n for k, n in counts.items() if n}


def _fail(rule: str, flags: pa.ChunkedArray, events: pa.Table, where: str) -> DataError:
    row = events.column(_ROW).filter(flags)[0].as_py()
    n = pc.sum(flags).as_py()
    return DataError(f"{rule}; got {n} rows, the first is row {row}", where=where)


def _has(flags: pa.ChunkedArray) -> bool:
    return bool(pc.any(flags).as_py())


def _without(events: pa.Table, flags: pa.ChunkedArray) -> pa.Table:
    return events.filter(pc.invert(flags))


def _set(events: pa.Table, name: str, values: pa.ChunkedArray) -> pa.Table:
    place = events.schema.get_field_index(name)
    kind = events.schema.field(place).type
    return events.set_column(place, pa.field(name, kind), values.cast(kind))


def _duplicates(
    events: pa.Table, policy: CleanPolicy, counts: dict[str, int], where: str
) -> pa.Table:
    """Events with their row numbers and without duplicates, as the policy says."""
    numbered = events.append_column(_ROW, pa.array(range(1, events.num_rows + 1), pa.int64()))
    if policy.duplicates == "keep":
        return numbered
    flags = pa.chunked_array([pa.array(duplicate_rows(events))])
    events = numbered
    if not _has(flags):
        return events
    if policy.duplicates == "fail":
        raise _fail("rows must be unique", flags, events, where)
    counts["dropped_duplicates"] = pc.sum(flags).as_py()
    return _without(events, flags)


def _negative_quantity(
    events: pa.Table, policy: CleanPolicy, counts: dict[str, int], where: str
) -> pa.Table:
    quantity = events.column("quantity")
    flags = pc.fill_null(pc.less(quantity, 0), False)
    if not _has(flags):
        return events
    if policy.negative_quantity == "fail":
        raise _fail("column 'quantity' must be >= 0", flags, events, where)
    if policy.negative_quantity == "drop":
        counts["dropped_negative_quantity"] = pc.sum(flags).as_py()
        return _without(events, flags)
    kind = events.column("event_type")
    is_sale = is_sale_row(events)
    other = pc.and_(flags, pc.invert(is_sale))
    if _has(other):
        raise _fail("only purchases and returns may have a negative quantity", other, events, where)
    counts["returns_from_negative_quantity"] = pc.sum(flags).as_py()
    events = _set(events, "event_type", pc.if_else(flags, "return", kind))
    return _set(events, "quantity", pc.abs(quantity))


def _impossible(
    events: pa.Table, policy: CleanPolicy, counts: dict[str, int], where: str
) -> pa.Table:
    for fault, name in _IMPOSSIBLE_IN.items():
        flags = pc.fill_null(impossible_rows(events)[fault], False)
        if not _has(flags):
            continue
        if policy.impossible == "fail":
            raise _fail(f"column {name!r} must be possible, {fault} is not", flags, events, where)
        n = pc.sum(flags).as_py()
        if policy.impossible == "drop":
            counts[f"dropped_{fault}"] = n
            events = _without(events, flags)
        else:
            counts[f"missing_from_{fault}"] = n
            values = events.column(name)
            events = _set(events, name, pc.if_else(flags, pa.scalar(None, values.type), values))
    return events


def _missing(
    events: pa.Table,
    name: str,
    action: Missing,
    medians: Medians | None,
    counts: dict[str, int],
    where: str,
) -> pa.Table:
    flags = events.column(name).is_null()
    n = pc.sum(flags).as_py() or 0
    if action == "indicator":
        events = events.append_column(pa.field(f"is_missing_{name}", pa.bool_()), flags)
    if n == 0 or action == "keep":
        return events
    if action == "fail":
        raise _fail(f"column {name!r} must have no null or NaN", flags, events, where)
    if action == "drop":
        counts[f"dropped_missing_{name}"] = n
        return _without(events, flags)
    counts[f"filled_{name}"] = n
    return _set(events, name, _filled(events, name, medians, where))


def _filled(events: pa.Table, name: str, medians: Medians | None, where: str) -> pa.ChunkedArray:
    """Column with its nulls filled by item, by category, over all; whole units for quantity."""
    overall = medians.overall[name] if medians is not None else None
    if medians is None or overall is None:
        raise DataError(f"column {name!r} must have some value to be filled; got none", where=where)
    place = pc.index_in(events.column("item_id"), medians.by_item.column("item_id"))
    of_item = medians.by_item.column(name).take(place)
    category = pc.fill_null(medians.by_item.column("category").take(place), "")
    group = pc.index_in(category, medians.by_category.column("category"))
    fill = pc.coalesce(of_item, medians.by_category.column(name).take(group), overall)
    if name == "quantity":
        fill = pc.round(fill, round_mode="half_to_even")
    return pc.coalesce(events.column(name).cast(pa.float64()), fill)


def _winsorize(events: pa.Table, bounds: Bounds, counts: dict[str, int]) -> pa.Table:
    is_sale = is_sale_row(events)
    for name, (low, high) in bounds.items():
        values = events.column(name)
        outside = pc.or_(pc.less(values, low), pc.greater(values, high))
        flags = pc.and_(is_sale, outside)
        counts[f"winsorized_{name}"] = pc.sum(flags).as_py() or 0
        inside = pc.min_element_wise(pc.max_element_wise(values, low), high)
        events = _set(events, name, pc.if_else(flags, inside, values))
    return events
