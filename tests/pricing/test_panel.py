from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from promo_ray.artifacts.events import SCHEMA
from promo_ray.errors import DataError
from promo_ray.numerics.merge_tree import tree_reduce
from promo_ray.pricing import merge_weekly_sales, panel_of, weekly_sales

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def events(*rows):
    """Rows of (item, days after the Monday, quantity, unit price, discount, event type)."""
    full = [
        {
            "user_id": f"u{i}",
            "item_id": item,
            "event_type": kind,
            "at": MONDAY + timedelta(days=day),
            "quantity": quantity,
            "unit_price": price,
            "discount": discount,
        }
        for i, (item, day, quantity, price, discount, kind) in enumerate(rows)
    ]
    columns = {n: [r.get(n) for r in full] for n in SCHEMA.names}
    return pa.table(columns, schema=SCHEMA)


def catalog(**is_active):
    return pa.table(
        {
            "item_id": list(is_active),
            "category": ["x"] * len(is_active),
            "is_active": list(is_active.values()),
        }
    )


def test_purchases_are_summed_by_item_and_week_in_whole_cents():
    table = weekly_sales(
        events(
            ("b", 0, 2, 1.10, 0.2, "purchase"),
            ("b", 6.9, 1, 1.00, None, "purchase"),
            ("b", 7, 1, 1.15, 0.0, "purchase"),
            ("a", 3, 3, 0.33, 0.0, "purchase"),
            ("a", 3, 1, 9.0, 0.0, "view"),
            ("a", 3, 1, 9.0, 0.0, "return"),
            ("a", 3, 0, 9.0, 0.0, "purchase"),
        )
    )
    week = (MONDAY - datetime(1969, 12, 29, tzinfo=UTC)).days // 7
    assert table.to_pylist() == [
        {"item_id": "a", "week": week, "units": 3, "paid_cents": 99, "list_cents": 99},
        {"item_id": "b", "week": week, "units": 3, "paid_cents": 320, "list_cents": 340},
        {"item_id": "b", "week": week + 1, "units": 1, "paid_cents": 115, "list_cents": 115},
    ]


def test_shards_merge_to_the_table_of_all_events_in_any_order():
    rng = np.random.default_rng(0)
    rows = [
        (f"i{rng.integers(5)}", float(rng.uniform(0, 40)), int(rng.integers(1, 4)), 1.99, 0.5)
        for _ in range(200)
    ]
    whole = weekly_sales(events(*[(*r, "purchase") for r in rows]))
    parts = [weekly_sales(events(*[(*r, "purchase") for r in rows[i::7]])) for i in range(7)]
    assert tree_reduce(parts, merge_weekly_sales).equals(whole)
    assert tree_reduce(parts[::-1], merge_weekly_sales).equals(whole)


def test_shards_without_purchases_merge_too():
    empty = weekly_sales(events(("a", 0, 1, 1.0, None, "view")))
    full = weekly_sales(events(("a", 0, 1, 1.0, None, "purchase")))
    assert empty.num_rows == 0
    assert merge_weekly_sales(empty, full).equals(full)


def test_weeks_without_sales_carry_the_last_known_price_on():
    sales = weekly_sales(
        events(
            ("a", 0, 1, 2.0, 1.0, "purchase"),
            ("a", 21, 1, 5.0, 0.0, "purchase"),
            ("late", 14, 1, 7.0, 0.0, "purchase"),
        )
    )
    panel = panel_of(sales, catalog(a=True, late=True))
    assert panel.price[0].tolist() == [2.0, 2.0, 2.0, 5.0]
    np.testing.assert_equal(panel.price[1], [np.nan, np.nan, 7.0, 7.0])
    assert panel.is_open.tolist() == [[True] * 4, [False, False, True, True]]
    assert panel.units.tolist() == [[1, 0, 0, 1], [0, 0, 1, 0]]
    assert panel_of(sales, price="list").price[0].tolist() == [3.0, 3.0, 3.0, 5.0]


def test_items_off_the_catalog_close_after_their_last_sale():
    rows = [("gone", 0, 1, 2.0, 0.0, "purchase"), ("kept", 14, 1, 2.0, 0.0, "purchase")]
    panel = panel_of(weekly_sales(events(*rows)), catalog(gone=False, kept=True))
    assert panel.is_open[0].tolist() == [True, False, False]


def test_no_purchases_at_all_is_an_error_that_says_so():
    with pytest.raises(DataError, match="at least one purchase"):
        panel_of(weekly_sales(events(("a", 0, 1, 1.0, None, "view"))))
