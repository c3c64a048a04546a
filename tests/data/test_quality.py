from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_ray.artifacts.events import SCHEMA
from promo_ray.data.quality import check_quality, merge, winsor_bounds
from promo_ray.errors import ConfigError

START = datetime(2026, 1, 5, tzinfo=UTC)


def events_of(rows: list[dict[str, Any]]) -> pa.Table:
    base = {
        "user_id": "u",
        "item_id": "i",
        "event_type": "purchase",
        "at": START,
        "quantity": 1,
        "unit_price": 2.0,
    }
    nullable = pa.schema([pa.field(f.name, f.type) for f in SCHEMA])
    return pa.Table.from_pylist([{**base, **row} for row in rows], schema=nullable)


def test_each_fault_is_counted_in_its_place() -> None:
    events = events_of(
        [
            {"at": START + timedelta(days=3), "user_id": None, "item_id": "other"},
            {"quantity": -1},
            {"quantity": 0},
            {"unit_price": None},
            {"unit_price": -1.0, "discount": 0.5},
            {"unit_price": 0.0, "discount": 4.0},  # a gift: free, not impossible
            {"discount": -1.0},
            {"event_type": "return"},
            {"event_type": "view", "quantity": 0, "item_id": None},
        ]
    )
    report = check_quality(events, pa.table({"item_id": ["i"]})).to_dict()
    assert report["n_rows"] == 9
    assert report["n_users"] == 1
    assert report["n_items"] == 2
    assert (report["n_items_not_in_catalog"], report["n_rows_not_in_catalog"]) == (1, 1)
    assert report["impossible"] == {
        "negative_quantity": 1,
        "zero_quantity": 1,
        "negative_price": 1,
        "negative_discount": 1,
        "discount_above_line": 1,
    }
    assert report["n_free"] == 1
    assert {k: v for k, v in report["missing"].items() if v and v < 6} == {
        "user_id": 1,
        "item_id": 1,
        "unit_price": 1,
    }
    assert (report["n_purchases"], report["n_returns"]) == (7, 1)
    assert report["return_share"] == 1 / 8
    assert report["first_at"] == "2026-01-05T00:00:00+00:00"
    assert report["last_at"] == "2026-01-08T00:00:00+00:00"
    assert orjson.loads(orjson.dumps(report)) == report


def test_duplicates_are_rows_equal_in_every_column() -> None:
    rows = [{"order_id": "1"}, {"order_id": None}, {"order_id": "1"}, {"order_id": None}, {}]
    assert check_quality(events_of(rows)).n_duplicates == 3
    assert check_quality(events_of([{"order_id": "1"}, {"order_id": "2"}])).n_duplicates == 0


def test_time_order_is_counted_within_users() -> None:
    days = [("a", 2), ("b", 1), ("a", 1), ("b", 2), ("a", 3), ("a", 3), ("a", 0)]
    rows = [{"user_id": u, "at": START + timedelta(days=d)} for u, d in days]
    assert check_quality(events_of(rows)).n_out_of_order == 2


def test_bounds_are_values_at_the_quantiles_and_outliers_lie_outside() -> None:
    rows = [{"unit_price": float(p), "quantity": p} for p in range(1, 1001)]
    rows += [{"event_type": "view", "unit_price": 1e9, "quantity": 0}]
    events = events_of(rows)
    bounds = winsor_bounds(events, 0.01)
    assert bounds == {"unit_price": (10.0, 990.0), "quantity": (10.0, 990.0)}
    assert check_quality(events, bounds=bounds).outliers == {
        "unit_price": (9, 10),
        "quantity": (9, 10),
    }


@pytest.mark.parametrize("rate", [-0.1, 0.5, float("nan")])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="winsor rate"):
        winsor_bounds(events_of([{}]), rate)


def test_events_without_any_value_still_give_a_report() -> None:
    report = check_quality(events_of([]))
    assert (report.n_rows, report.first_at, report.outliers) == (0, None, {})


def test_reports_of_other_bounds_do_not_merge() -> None:
    a = check_quality(events_of([{}]), bounds={"quantity": (0.0, 1.0)})
    with pytest.raises(ConfigError, match="bounds"):
        merge(a, check_quality(events_of([{}]), bounds={"quantity": (0.0, 2.0)}))


row = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from("abcdef"),
        "item_id": st.sampled_from(["i", "j", None]),
        "event_type": st.sampled_from(["purchase", "return", "view"]),
        "at": st.integers(0, 3).map(lambda d: START + timedelta(days=d)),
        "quantity": st.integers(-2, 3),
        "unit_price": st.sampled_from([-1.0, 0.0, 1.0, 5.0, None]),
        "discount": st.sampled_from([None, -1.0, 0.0, 3.0]),
    }
)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(row, max_size=30))
def test_merged_reports_of_shards_equal_the_report_of_all(rows: list[dict[str, Any]]) -> None:
    events = events_of(rows)
    catalog = pa.table({"item_id": ["i"]})
    bounds = {"quantity": (0.0, 2.0), "unit_price": (0.0, 4.0)}
    users = np.array(events.column("user_id").to_pylist(), dtype=object)
    halves = [events.filter(pa.array(np.isin(users, list(half)))) for half in ("abc", "def")]
    merged = merge(*(check_quality(h, catalog, bounds=bounds) for h in halves))
    whole = check_quality(events, catalog, bounds=bounds)
    assert merged == whole
    distinct = {tuple(row.values()) for row in events.to_pylist()}
    assert whole.n_duplicates == len(rows) - len(distinct)
