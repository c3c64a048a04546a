"""What each user did before a time, one row per user: the base of every profile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from promo_ray.errors import DataError

_DAY_US = 86_400_000_000.0
_LOG_UNITS = 1e6  # log prices are added up as integers in millionths
_LOG_LIMIT = 3.0  # a price 20 times off its reference says no more than that
_EVENT_COLUMNS = (
    "user_id",
    "item_id",
    "event_type",
    "at",
    "quantity",
    "unit_price",
    "discount",
    "order_id",
)
_COUNTS = (
    "n_events",
    "frequency",
    "orders_28d",
    "orders_91d",
    "n_categories",
    "n_views",
    "price_lines",
)
# measures, and the unit in which polars hands them over. Arrow divides them: polars divides by a
# constant through its reciprocal, but not in a table of one row, so the last bit would depend on
# the shard
_MEASURES = {
    "recency_days": _DAY_US,
    "monetary": 1.0,
    "basket_median": 100.0,
    "deal_share": 1.0,
    "units_per_order": 1.0,
    "tenure_days": _DAY_US,
    "first_order_days": _DAY_US,
    "return_share": 1.0,
    "gap_mean_days": _DAY_US,
    "gap_p90_days": _DAY_US,
    "weekend_share": 1.0,
    "price_log_mean": 1.0,
    "price_log_ss": 1.0,
}


def user_table(
    events: pa.Table, users: pa.Table, catalog: pa.Table | None, as_of: datetime
) -> pa.Table:
    """Behavior of every user of one shard from events strictly before `as_of`.

    An order is the purchase lines of one `order_id`; without one, of one UTC day. A line's spend
    is quantity * unit_price, rounded to hundredths; sums are integers, so the row of a user has
    the same bits in any shard. Days are lengths of 24 hours up to `as_of`.

    Args:
        events: rows of kind `events`; users that `users` lacks are left out.
        users: rows of kind `users`; `attr_*` columns pass through, `protected_*` never do.
        catalog: rows of kind `catalog`, for categories and list prices; None if there is none.
        as_of: instant with a time zone.

    Returns:
        One row per user, sorted by `user_id`. Counts (int32, 0 without events): `n_events`,
        `frequency` (orders), `orders_28d`, `orders_91d`, `n_categories` (bought; null without
        catalog), `n_views` (views and clicks), `price_lines` (purchase lines with a relative
        price). Measures (float64, null where there is nothing to measure): `recency_days` since
        the last order, `first_order_days`, `tenure_days` since the first event of any type,
        `monetary` (spend per order), `basket_median` (median order value), `deal_share` (share
        of spend on lines with a discount; null if discounts are not recorded), `units_per_order`,
        `return_share` (value returned / spend, at most 1), `gap_mean_days` and `gap_p90_days`
        (own mean and 90th percentile of days between orders), `weekend_share` (of orders, UTC),
        `price_log_mean` and `price_log_ss` (mean and sum of squared deviations of ln(price paid /
        reference) over lines; the reference is the list price, else the price before discount).

    Raises:
        DataError: `as_of` has no time zone, a user appears twice, or a column is missing.
    """
    if as_of.tzinfo is None:
        raise DataError(f"as_of must have a time zone; got {as_of.isoformat()}", where="user_table")
    _check_columns(events, _EVENT_COLUMNS, "events")
    _check_columns(users, ("user_id",), "users")
    attributes = [c for c in users.column_names if c.startswith("attr_")]
    known = _frame(users.select(["user_id", *attributes])).sort("user_id")
    if known["user_id"].n_unique() != known.height:
        raise DataError("user_id must be unique", where="users")
    instant = as_of.astimezone(UTC)
    past = _frame(events.select(list(_EVENT_COLUMNS))).filter(pl.col("at") < instant)
    return _plain(_behavior(known, past, catalog, instant).to_arrow())


def _behavior(
    known: pl.DataFrame, past: pl.DataFrame, catalog: pa.Table | None, as_of: datetime
) -> pl.DataFrame:
    lines = _purchase_lines(past, catalog)
    orders = _orders(lines)
    table = known.select("user_id")
    for part in (
        _activity(past, as_of),
        _order_measures(orders, as_of),
        _gap_measures(orders),
        _line_measures(lines),
        _returned(past),
    ):
        table = table.join(part, on="user_id", how="left", maintain_order="left")
    returned = (pl.col("returned_cents") / pl.col("cents")).fill_null(0.0).clip(0.0, 1.0)
    is_buyer = pl.col("frequency") > 0
    counts = {c: pl.col(c).fill_null(0).cast(pl.Int32) for c in _COUNTS}
    if catalog is None:
        counts["n_categories"] = pl.lit(None, dtype=pl.Int32)
    return (
        table.with_columns(return_share=pl.when(is_buyer).then(returned))
        .with_columns(**counts)
        .select("user_id", *_COUNTS, *(pl.col(c).cast(pl.Float64) for c in _MEASURES))
        .hstack(known.drop("user_id"))
    )


def _check_columns(table: pa.Table, names: tuple[str, ...], where: str) -> None:
    for name in names:
        if name not in table.column_names:
            raise DataError(f"column {name!r} must be present", where=where)


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise DataError("input must be a table; got one column")
    return frame


def _plain(table: pa.Table) -> pa.Table:
    """Measures in their own unit, and strings of the canonical type instead of large ones."""
    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        unit = _MEASURES.get(field.name, 1.0)
        is_text = pa.types.is_large_string(field.type)
        scaled = column if unit == 1.0 else pc.divide(column, pa.scalar(unit))
        columns.append(scaled.cast(pa.string()) if is_text else scaled)
    return pa.table(columns, names=table.column_names).combine_chunks()


def _cents() -> pl.Expr:
    return (pl.col("unit_price") * pl.col("quantity") * 100).round().cast(pl.Int64)


def _purchase_lines(past: pl.DataFrame, catalog: pa.Table | None) -> pl.DataFrame:
    lines = past.filter((pl.col("event_type") == "purchase") & (pl.col("quantity") > 0))
    if catalog is None:
        lines = lines.with_columns(category=pl.lit(None, dtype=pl.String), list_price=None)
    else:
        _check_columns(catalog, ("item_id", "category", "list_price"), "catalog")
        items = _frame(catalog.select(["item_id", "category", "list_price"]))
        lines = lines.join(items, on="item_id", how="left", maintain_order="left")
    shelf = pl.col("unit_price") + pl.col("discount") / pl.col("quantity")
    listed = pl.col("list_price").cast(pl.Float64)
    reference = pl.when(listed > 0).then(listed).otherwise(shelf)
    is_priced = (pl.col("unit_price") > 0) & (reference > 0)
    log_price = (pl.col("unit_price") / reference).log().clip(-_LOG_LIMIT, _LOG_LIMIT)
    return lines.with_columns(
        order=pl.coalesce("order_id", pl.col("at").dt.strftime("day %Y-%m-%d")),
        cents=_cents(),
        log_price=pl.when(is_priced).then((log_price * _LOG_UNITS).round().cast(pl.Int64)),
    )


def _orders(lines: pl.DataFrame) -> pl.DataFrame:
    return (
        lines.group_by("user_id", "order")
        .agg(pl.col("at").min(), pl.col("cents").sum(), pl.col("quantity").cast(pl.Int64).sum())
        .sort("user_id", "at", "order")
    )


def _time_before(as_of: datetime, at: pl.Expr) -> pl.Expr:
    return (pl.lit(as_of) - at).dt.total_microseconds()


def _activity(past: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    return past.group_by("user_id").agg(
        n_events=pl.len(),
        n_views=pl.col("event_type").is_in(["view", "click"]).sum(),
        tenure_days=_time_before(as_of, pl.col("at").min()),
    )


def _order_measures(orders: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    at, n = pl.col("at"), pl.len()
    return orders.group_by("user_id").agg(
        frequency=n,
        orders_28d=(at >= as_of - timedelta(days=28)).sum(),
        orders_91d=(at >= as_of - timedelta(days=91)).sum(),
        recency_days=_time_before(as_of, at.max()),
        first_order_days=_time_before(as_of, at.min()),
        cents=pl.col("cents").sum(),
        monetary=pl.col("cents").sum() / (n * 100),
        basket_median=pl.col("cents").median(),
        units_per_order=pl.col("quantity").sum() / n,
        weekend_share=(at.dt.weekday() >= 6).sum() / n,
    )


def _gap_measures(orders: pl.DataFrame) -> pl.DataFrame:
    gap = pl.col("at").diff().over("user_id").dt.total_microseconds()
    return (
        orders.with_columns(gap=gap)
        .drop_nulls("gap")
        .group_by("user_id")
        .agg(
            gap_mean_days=pl.col("gap").sum() / pl.len(),
            gap_p90_days=pl.col("gap").quantile(0.9, interpolation="linear"),
        )
    )


def _line_measures(lines: pl.DataFrame) -> pl.DataFrame:
    log_price = pl.col("log_price")
    n, total = log_price.count(), log_price.sum()
    squares = (log_price * log_price).sum() - total * (total / n)
    deals = pl.col("cents").filter(pl.col("discount") > 0).sum() / pl.col("cents").sum()
    return lines.group_by("user_id").agg(
        n_categories=pl.col("category").drop_nulls().n_unique(),
        deal_share=pl.when(
            pl.col("discount").is_not_null().any() & (pl.col("cents").sum() > 0)
        ).then(deals),
        price_lines=n,
        price_log_mean=pl.when(n > 0).then(total / (n * _LOG_UNITS)),
        price_log_ss=pl.when(n > 0).then(squares.clip(0) * _LOG_UNITS**-2),
    )


def _returned(past: pl.DataFrame) -> pl.DataFrame:
    returns = past.filter(pl.col("event_type") == "return")
    return returns.group_by("user_id").agg(returned_cents=_cents().sum())
