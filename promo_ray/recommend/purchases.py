"""Purchases in a window, as every method of this package reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pyarrow as pa

from promo_ray.errors import ConfigError, DataError

_COLUMNS = ("user_id", "item_id", "event_type", "at", "quantity", "order_id")


def check_instant(as_of: datetime) -> None:
    """Refuse a time without a zone.

    Raises:
        ConfigError: `as_of` is naive.
    """
    if as_of.tzinfo is None:
        raise ConfigError(f"as_of must have a time zone; got {as_of.isoformat()}")


def purchases(
    events: pa.Table, as_of: datetime | None = None, window_days: float | None = None
) -> pl.DataFrame:
    """Purchase lines strictly before `as_of` and, if given, at most `window_days` before it.

    Args:
        events: rows of kind `events`.
        as_of: instant with a time zone; no limit if None.
        window_days: length of the window; the whole past if None.

    Returns:
        `user_id`, `item_id`, `at`, `order`: the `order_id`, else the UTC day.

    Raises:
        DataError: a column is missing.
    """
    for name in _COLUMNS:
        if name not in events.column_names:
            raise DataError(f"column {name!r} must be present", where="events")
    frame = pl.from_arrow(events.select(list(_COLUMNS)))
    if not isinstance(frame, pl.DataFrame):
        raise DataError("input must be a table; got one column", where="events")
    lines = frame.filter((pl.col("event_type") == "purchase") & (pl.col("quantity") > 0))
    if as_of is not None:
        instant = as_of.astimezone(UTC)
        lines = lines.filter(pl.col("at") < instant)
        if window_days is not None:
            lines = lines.filter(pl.col("at") >= instant - timedelta(days=window_days))
    order = pl.coalesce("order_id", pl.col("at").dt.strftime("day %Y-%m-%d"))
    return lines.select("user_id", "item_id", "at", order=order)
