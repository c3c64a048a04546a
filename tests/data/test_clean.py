import statistics
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_ray.artifacts.events import EVENTS, SCHEMA
from promo_ray.config import parse
from promo_ray.data.clean import CleanPolicy, clean, fill_medians
from promo_ray.data.quality import check_quality, winsor_bounds
from promo_ray.errors import ConfigError, DataError

START = datetime(2026, 1, 5, tzinfo=UTC)
CATALOG = pa.table({"item_id": ["i", "j", "k"], "category": ["x", "x", "y"]})


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
    numbered = [{**base, "order_id": str(n), **row} for n, row in enumerate(rows)]
    return pa.Table.from_pylist(numbered, schema=nullable)


def test_sound_events_pass_unchanged() -> None:
    events = events_of([{}, {"item_id": "j", "event_type": "view", "quantity": 0}])
    cleaned, counts = clean(events)
    assert cleaned.to_pylist() == events.to_pylist()
    assert counts == {}


def test_missing_prices_are_filled_by_item_then_category_then_all() -> None:
    prices = [("i", 1.0), ("i", 3.0), ("i", None), ("j", None), ("k", None), ("z", 7.0)]
    events = events_of([{"item_id": i, "unit_price": p} for i, p in prices])
    policy = CleanPolicy(missing={"unit_price": "fill"})
    cleaned, counts = clean(events, policy, medians=fill_medians(events, CATALOG))
    # j has the median of category x; k's category has no price, so it has that of all
    assert cleaned.column("unit_price").to_pylist() == [1.0, 3.0, 2.0, 2.0, 3.0, 7.0]
    assert counts == {"filled_unit_price": 3}


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ijkz"), st.one_of(st.none(), st.floats(0, 9))), max_size=30
    )
)
def test_medians_are_those_of_the_standard_library(rows: list[tuple[str, float | None]]) -> None:
    events = events_of([{"item_id": i, "unit_price": p} for i, p in rows])
    found = fill_medians(events, CATALOG)
    category = {"i": "x", "j": "x", "k": "y", "z": ""}
    known = [(i, p) for i, p in rows if p is not None]

    def median(prices: list[float]) -> float | None:
        return statistics.median(prices) if prices else None

    for row in found.by_item.to_pylist():
        assert row["unit_price"] == median([p for i, p in known if i == row["item_id"]])
        assert row["category"] == category[row["item_id"]]
    for row in found.by_category.to_pylist():
        own = [p for i, p in known if category[i] == row["category"]]
        assert row["unit_price"] == median(own)
    assert found.overall["unit_price"] == median([p for _, p in known])


def test_impossible_values_do_not_enter_medians() -> None:
    events = events_of([{"unit_price": p} for p in (-5.0, -5.0, -5.0, 1.0, None)])
    policy = CleanPolicy(missing={"unit_price": "fill"}, impossible="missing")
    cleaned, counts = clean(events, policy)
    assert cleaned.column("unit_price").to_pylist() == [1.0] * 5
    assert counts == {"missing_from_negative_price": 3, "filled_unit_price": 4}


def test_an_indicator_says_what_was_filled_even_where_nothing_was() -> None:
    policy = CleanPolicy(missing={"unit_price": "indicator"})
    cleaned, _ = clean(events_of([{"unit_price": None}, {"unit_price": 4.0}]), policy)
    assert cleaned.column("is_missing_unit_price").to_pylist() == [True, False]
    assert cleaned.column("unit_price").to_pylist() == [4.0, 4.0]
    cleaned, _ = clean(events_of([{}]), policy)
    assert cleaned.column("is_missing_unit_price").to_pylist() == [False]


def test_filled_quantities_are_whole_units() -> None:
    rows: list[dict[str, Any]] = [{"quantity": 1}, {"quantity": 4}, {"quantity": None}]
    cleaned, _ = clean(events_of(rows), CleanPolicy(missing={"quantity": "fill"}))
    assert cleaned.column("quantity").to_pylist() == [1, 4, 2]
    assert cleaned.schema.field("quantity").type == pa.int32()


def test_rows_can_be_dropped_by_each_fault() -> None:
    events = events_of(
        [
            {},
            {"user_id": None},
            {"quantity": -1},
            {"quantity": 0},
            {"unit_price": -1.0},
            {"order_id": "0"},
        ]
    )
    policy = CleanPolicy(
        missing={"user_id": "drop"}, negative_quantity="drop", impossible="drop", duplicates="drop"
    )
    cleaned, counts = clean(events, policy)
    assert cleaned.num_rows == 1
    assert counts == {
        "dropped_duplicates": 1,
        "dropped_negative_quantity": 1,
        "dropped_zero_quantity": 1,
        "dropped_negative_price": 1,
        "dropped_missing_user_id": 1,
    }


def test_negative_quantities_can_become_returns() -> None:
    events = events_of([{"quantity": -2}, {"quantity": 3}])
    cleaned, counts = clean(events, CleanPolicy(negative_quantity="return"))
    assert cleaned.column("event_type").to_pylist() == ["return", "purchase"]
    assert cleaned.column("quantity").to_pylist() == [2, 3]
    assert counts == {"returns_from_negative_quantity": 1}
    with pytest.raises(DataError, match="only purchases and returns"):
        clean(
            events_of([{"event_type": "view", "quantity": -1}]),
            CleanPolicy(negative_quantity="return"),
        )


def test_duplicates_fail_or_stay_if_the_policy_says_so() -> None:
    twice = events_of([{"order_id": "1"}, {"order_id": "1"}])
    assert clean(twice)[1] == {"dropped_duplicates": 1}
    assert clean(twice, CleanPolicy(duplicates="keep"))[0].num_rows == 2
    with pytest.raises(DataError, match="rows must be unique; got 1 rows, the first is row 2"):
        clean(twice, CleanPolicy(duplicates="fail"))


def test_an_error_names_the_row_of_the_input() -> None:
    events = events_of([{"order_id": "1"}, {"order_id": "1"}, {}, {"quantity": -1}])
    with pytest.raises(DataError, match=r"e\.csv: column 'quantity' must be >= 0; .* is row 4"):
        clean(events, where="e.csv")


def test_extremes_are_pulled_to_the_bounds_of_all_events() -> None:
    events = events_of([{"unit_price": float(p), "quantity": p} for p in range(1, 101)])
    policy = CleanPolicy(winsor_rate=0.05)
    bounds = winsor_bounds(events, 0.05)
    whole, counts = clean(events, policy, bounds)
    parts = [clean(events.slice(a, 50), policy, bounds)[0] for a in (0, 50)]
    assert pa.concat_tables(parts).equals(whole)
    assert whole.column("quantity").to_pylist()[:6] == [5, 5, 5, 5, 5, 6]
    assert whole.column("unit_price").to_pylist()[-6:] == [95.0] * 6
    assert counts == {"winsorized_unit_price": 9, "winsorized_quantity": 9}
    assert clean(events, policy)[0].equals(whole)


def test_a_column_without_any_value_cannot_be_filled() -> None:
    policy = CleanPolicy(missing={"unit_price": "fill"})
    with pytest.raises(DataError, match=r"shard 3: column 'unit_price' must have some value"):
        clean(events_of([{"unit_price": None}]), policy, where="shard 3")


@pytest.mark.parametrize(
    ("settings_", "text"),
    [
        ({"missing": {"user_id": "fill"}}, "can be filled"),
        ({"missing": {"price": "drop"}}, "must name columns of events"),
        ({"missing": {"unit_price": "keep"}}, "cannot keep nulls"),
        ({"winsor_rate": 0.5}, "winsor_rate must lie in"),
        ({"negative_quantity": "fill"}, "negative_quantity"),
        ({"outliers": "drop"}, "unknown key 'outliers'"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(settings_: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        parse(CleanPolicy, settings_)


row = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(["a", "b", None]),
        "item_id": st.sampled_from(["i", "j", "z"]),
        "event_type": st.sampled_from(["purchase", "return", "purchase", "view"]),
        "quantity": st.sampled_from([-2, 0, 1, 5, None]),
        "unit_price": st.sampled_from([-1.0, 0.0, 1.0, 9.0, None]),
        "discount": st.sampled_from([None, -1.0, 0.0, 3.0]),
        "order_id": st.sampled_from(["1", "2"]),
    }
)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(row, max_size=20),
    fill=st.sampled_from(["fill", "indicator", "drop"]),
    impossible=st.sampled_from(["drop", "missing"]),
)
def test_cleaned_events_have_no_fault_left(
    rows: list[dict[str, Any]], fill: Any, impossible: Any
) -> None:
    sound: list[dict[str, Any]] = [{"order_id": "s"}]
    events = events_of(sound + rows)
    policy = CleanPolicy(
        missing={"user_id": "drop", "unit_price": fill, "quantity": fill, "discount": "keep"},
        negative_quantity="drop",
        impossible=impossible,
    )
    cleaned, counts = clean(events, policy, medians=fill_medians(events, CATALOG))
    assert EVENTS.tables["events"].conform(cleaned, "events").num_rows >= 1
    report = check_quality(cleaned)
    assert not any(report.impossible.values())
    n_dropped = sum(n for k, n in counts.items() if k.startswith("dropped"))
    assert events.num_rows - cleaned.num_rows == n_dropped
