"""Weekly sales of items: a mergeable table from events, and the dense panel made of it.

A price is known only in weeks with sales. Weeks without carry the last known price on; filling
them with anything that gives the zero away would leak the outcome into the price.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promo_ray.errors import DataError

WEEKLY_SALES = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("week", pa.int32(), nullable=False),  # weeks since Monday 1969-12-29
        pa.field("units", pa.int64(), nullable=False),
        pa.field("paid_cents", pa.int64(), nullable=False),  # what was paid, discounts taken off
        pa.field("list_cents", pa.int64(), nullable=False),  # before discounts
    ]
)

_KEYS = ["item_id", "week"]
_SUMS = ["units", "paid_cents", "list_cents"]
_DAY_US = 86_400_000_000
_MONDAY = 3  # 1970-01-01 was a Thursday


def weekly_sales(events: pa.Table) -> pa.Table:
    """Purchases summed by item and week, in whole units and cents.

    Args:
        events: table of kind `events`, or one shard of it.

    Returns:
        Table `WEEKLY_SALES` sorted by item and week; see `merge_weekly_sales`.
    """
    is_sale = pc.and_(
        pc.equal(events["event_type"], "purchase"),
        pc.and_(pc.greater(events["quantity"], 0), pc.greater(events["unit_price"], 0.0)),
    )
    sales = events.filter(is_sale)
    micros = sales["at"].cast(pa.int64()).to_numpy()
    quantity = sales["quantity"].to_numpy().astype(np.int64)
    paid = np.rint(quantity * sales["unit_price"].to_numpy() * 100.0).astype(np.int64)
    off = pc.fill_null(sales["discount"], 0.0).to_numpy()
    discount = np.rint(np.maximum(off, 0.0) * 100.0).astype(np.int64)
    week = (micros // _DAY_US + _MONDAY) // 7
    lines = pa.table(
        {
            "item_id": sales["item_id"],
            "week": pa.array(week.astype(np.int32)),
            "units": quantity,
            "paid_cents": paid,
            "list_cents": paid + discount,
        }
    )
    return _summed(lines)


def merge_weekly_sales(a: pa.Table, b: pa.Table) -> pa.Table:
    """Weekly sales of two sets of events; exact, in any order."""
    return _summed(pa.concat_tables([a, b]))


def _summed(lines: pa.Table) -> pa.Table:
    grouped = lines.group_by(_KEYS, use_threads=False).aggregate([(c, "sum") for c in _SUMS])
    grouped = grouped.rename_columns(
        [*_KEYS, *_SUMS] if grouped.column_names[0] == "item_id" else [*_SUMS, *_KEYS]
    )
    ordered = grouped.sort_by([(k, "ascending") for k in _KEYS])
    return ordered.select(WEEKLY_SALES.names).cast(WEEKLY_SALES)


class WeeklyPanel(NamedTuple):
    """Items by weeks, dense.

    Attributes:
        item_ids: ids, ascending.
        categories: names of categories, ascending.
        category: `(n,)` int64 category of each item.
        first_week: number of the first column's week.
        units: `(n, t)` float64 units sold.
        price: `(n, t)` float64 price per unit, currency units; the last known one in weeks without
            sales, NaN before the first sale.
        is_open: `(n, t)` whether the item was on sale: from its first sale to the end, or to its
            last sale if it has left the catalog.
    """

    item_ids: tuple[str, ...]
    categories: tuple[str, ...]
    category: NDArray[np.int64]
    first_week: int
    units: NDArray[np.float64]
    price: NDArray[np.float64]
    is_open: NDArray[np.bool_]

    def until(self, n_weeks: int) -> WeeklyPanel:
        """The first `n_weeks` weeks."""
        own = slice(0, n_weeks)
        return self._replace(
            units=self.units[:, own], price=self.price[:, own], is_open=self.is_open[:, own]
        )


def panel_of(
    sales: pa.Table, catalog: pa.Table | None = None, price: Literal["paid", "list"] = "paid"
) -> WeeklyPanel:
    """Dense panel of weekly sales.

    Args:
        sales: table `WEEKLY_SALES`.
        catalog: table of kind `catalog` for categories and whether an item is still on sale; items
            that it lacks, or all without it, fall into category "".
        price: which price drives demand: the one paid, or before discounts.

    Raises:
        DataError: there are no sales.
    """
    if sales.num_rows == 0:
        raise DataError("must have at least one purchase; got none", where="weekly sales")
    item_ids, item = np.unique(sales["item_id"].to_numpy(zero_copy_only=False), return_inverse=True)
    week = sales["week"].to_numpy().astype(np.int64)
    first = int(week.min())
    shape = (len(item_ids), int(week.max()) - first + 1)
    units, money = np.zeros(shape), np.zeros(shape)
    units[item, week - first] = sales["units"].to_numpy()
    money[item, week - first] = sales[f"{price}_cents"].to_numpy()
    paid = np.divide(money / 100.0, units, out=np.full(shape, np.nan), where=units > 0)
    categories, category, is_active = _from_catalog(item_ids, catalog)
    sold = units > 0
    is_open = np.maximum.accumulate(sold, axis=1)
    is_open &= is_active[:, None] | np.maximum.accumulate(sold[:, ::-1], axis=1)[:, ::-1]
    return WeeklyPanel(
        tuple(item_ids.tolist()), categories, category, first, units, _carried(paid), is_open
    )


def _carried(price: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each NaN replaced by the last number to its left, if there is one."""
    last = np.where(np.isnan(price), -1, np.arange(price.shape[1]))
    last = np.maximum.accumulate(last, axis=1)
    carried = np.take_along_axis(price, np.maximum(last, 0), axis=1)
    return np.where(last >= 0, carried, np.nan)


def _from_catalog(
    item_ids: NDArray[np.object_], catalog: pa.Table | None
) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.bool_]]:
    category_of: dict[str, str] = {}
    gone: set[str] = set()
    if catalog is not None:
        ids = catalog["item_id"].to_pylist()
        category_of = dict(zip(ids, catalog["category"].to_pylist(), strict=True))
        active = catalog["is_active"].to_pylist()
        gone = {i for i, is_active in zip(ids, active, strict=True) if not is_active}
    own = np.array([category_of.get(i, "") for i in item_ids], dtype=object)
    categories, category = np.unique(own, return_inverse=True)
    is_active = np.array([i not in gone for i in item_ids], dtype=bool)
    return tuple(categories.tolist()), category.astype(np.int64), is_active
