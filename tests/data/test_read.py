from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.users import USERS
from promo_ray.data.read import read_events, read_offers, read_table, read_users
from promo_ray.errors import DataError

EVENT_COLUMNS = {
    "user_id": ["007", "b"],
    "item_id": ["1", "2"],
    "event_type": ["purchase", "view"],
    "at": ["2026-01-05T10:00:00", "2026-01-05 11:00:00.5"],
    "quantity": ["2", "0"],
    "unit_price": ["1.50", " 3 "],
}


def _csv(path: Path, columns: dict[str, list[str]]) -> str:
    rows = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def test_csv_and_parquet_of_the_same_events_read_the_same(tmp_path: Path) -> None:
    from_csv = read_events(_csv(tmp_path / "events.csv", EVENT_COLUMNS))
    pq.write_table(from_csv, tmp_path / "events.parquet")
    from_parquet = read_events(str(tmp_path / "events.parquet"))
    assert from_csv.to_pylist() == from_parquet.to_pylist()
    assert from_csv.column("user_id").to_pylist() == ["007", "b"]
    assert from_csv.column("unit_price").to_pylist() == [1.5, 3.0]
    assert EVENTS.tables["events"].conform(from_csv, "events").num_rows == 2


def test_optional_columns_are_filled_with_nulls_and_unknown_ones_left_out(tmp_path: Path) -> None:
    events = read_events(_csv(tmp_path / "e.csv", {**EVENT_COLUMNS, "weather": ["sun", "rain"]}))
    assert events.column_names == EVENTS.tables["events"].schema.names
    assert events.column("discount").null_count == 2


def test_mapping_renames_columns(tmp_path: Path) -> None:
    renamed = {{"user_id": "customer", "unit_price": "price"}.get(k, k): v for k, v in
               EVENT_COLUMNS.items()}  # fmt: skip
    uri = _csv(tmp_path / "e.csv", renamed)
    plain = read_events(_csv(tmp_path / "p.csv", EVENT_COLUMNS))
    assert read_events(uri, {"user_id": "customer", "unit_price": "price"}).equals(plain)


def test_times_without_a_zone_are_utc_and_others_are_converted(tmp_path: Path) -> None:
    columns = {**EVENT_COLUMNS, "at": ["2026-01-05", "2026-01-05T10:00:00+02:00"]}
    at = read_events(_csv(tmp_path / "e.csv", columns)).column("at").to_pylist()
    assert at == [datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 5, 8, tzinfo=UTC)]


def test_numbers_as_ids_lose_no_digit(tmp_path: Path) -> None:
    table = read_events(_csv(tmp_path / "e.csv", EVENT_COLUMNS))
    for ids, want in (
        (pa.array([4.0128e10, 9e5]), ["40128000000", "900000"]),
        (pa.array([17850, None], pa.int32()), ["17850", None]),
        (pa.array(["x", "x"]).dictionary_encode(), ["x", "x"]),
    ):
        pq.write_table(table.set_column(0, "user_id", ids), tmp_path / "e.parquet")
        got = read_events(str(tmp_path / "e.parquet"))
        assert got.column("user_id").to_pylist() == want
        assert got.schema.field("user_id").type == pa.string()


def test_values_to_be_cleaned_pass_as_nulls(tmp_path: Path) -> None:
    columns = {**EVENT_COLUMNS, "unit_price": ["NaN", ""], "quantity": ["-2", "1"]}
    events = read_events(_csv(tmp_path / "e.csv", columns))
    assert events.column("unit_price").null_count == 2
    assert events.column("quantity").to_pylist() == [-2, 1]


def test_a_directory_of_parts_is_one_table_in_order_of_names(tmp_path: Path) -> None:
    part = read_events(_csv(tmp_path / "e.csv", EVENT_COLUMNS))
    (tmp_path / "events").mkdir()
    pq.write_table(part.slice(1), tmp_path / "events" / "b.parquet")
    pq.write_table(part.slice(0, 1), tmp_path / "events" / "a.parquet")
    assert read_events(str(tmp_path / "events")).equals(part)


def test_a_file_uri_reads_like_its_path(tmp_path: Path) -> None:
    uri = _csv(tmp_path / "e.csv", EVENT_COLUMNS)
    assert read_events(f"file://{uri}").equals(read_events(uri))


def test_attributes_keep_numbers_as_float_and_text_as_string(tmp_path: Path) -> None:
    table = pa.table({
        "user_id": ["a", "b"],
        "attr_age_of_account": pa.array([1, None], pa.int8()),
        "attr_is_member": [True, False],
        "attr_city": pa.array(["x", "y"]).dictionary_encode(),
        "note": ["p", "q"],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "users.parquet")
    users = USERS.tables["users"].conform(read_users(str(tmp_path / "users.parquet")), "users")
    assert users.column("attr_age_of_account").to_pylist() == [1.0, None]
    assert users.column("attr_is_member").to_pylist() == [1.0, 0.0]
    assert users.column("attr_city").to_pylist() == ["x", "y"]
    assert "note" not in users.column_names


def test_attributes_in_csv_are_numbers_flags_or_text(tmp_path: Path) -> None:
    attributes = {"attr_n": ["1", ""], "attr_flag": ["true", "False"], "attr_text": ["1", "x"]}
    users = read_users(_csv(tmp_path / "u.csv", {"user_id": ["a", "b"], **attributes}))
    assert users.column("attr_n").to_pylist() == [1.0, None]
    assert users.column("attr_flag").to_pylist() == [1.0, 0.0]
    assert users.column("attr_text").to_pylist() == ["1", "x"]


def test_a_column_that_is_not_needed_cannot_break_reading(tmp_path: Path) -> None:
    n = 200_000  # several blocks of the CSV reader
    uri = _csv(tmp_path / "u.csv", {"user_id": [f"user{i}" for i in range(n)],
                                    "note": ["1"] * (n - 1) + ["text"]})  # fmt: skip
    assert read_users(uri).num_rows == n


def test_an_attribute_can_be_mapped(tmp_path: Path) -> None:
    pacsv.write_csv(pa.table({"id": ["a"], "age": [40]}), tmp_path / "users.csv")
    uri = str(tmp_path / "users.csv")
    users = read_users(uri, {"user_id": "id", "protected_age": "age"})
    assert users.to_pylist() == [{"user_id": "a", "is_consenting": None, "protected_age": 40.0}]
    with pytest.raises(DataError, match=r"users\.csv: column 'years' .* must be present"):
        read_users(uri, {"user_id": "id", "protected_age": "years"})


def test_offers_in_csv_list_items_with_bars(tmp_path: Path) -> None:
    uri = _csv(tmp_path / "offers.csv", {
        "offer_id": ["o"], "mechanic": ["product_bundle"], "depth_rate": ["0.2"],
        "item_ids": ["a|b"], "contact_cost": ["0.1"], "label": ["both"],
    })  # fmt: skip
    offers = read_offers(uri)
    assert offers.column("item_ids").to_pylist() == [["a", "b"]]
    assert offers.column("amount").to_pylist() == [None]


def test_flags_read_from_words_and_digits(tmp_path: Path) -> None:
    base = {"user_id": ["a"] * 4, "exposed_at": ["2026-01-05"] * 4, "window_s": ["60"] * 4}
    uri = _csv(tmp_path / "log.csv", {**base, "is_visit": ["1", "0", "True", ""]})
    log = read_table(uri, CAMPAIGN_LOG.tables["campaign_log"])
    assert log.column("is_visit").to_pylist() == [True, False, True, None]
