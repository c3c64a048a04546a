"""Every broken input gives one clear line that names the file and the column, and exit code 2."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promo_ray.data.adapters import find_adapter
from promo_ray.data.clean import clean
from promo_ray.data.read import (
    read_campaign_log,
    read_catalog,
    read_events,
    read_offers,
    read_users,
)
from promo_ray.errors import ConfigError, DataError

EVENTS: dict[str, Sequence[Any]] = {
    "user_id": ["a", "b"],
    "item_id": ["1", "2"],
    "event_type": ["purchase", "view"],
    "at": ["2026-01-05", "2026-01-06"],
    "quantity": [2, 0],
    "unit_price": [1.5, 3.0],
}
CATALOG = {
    "item_id": ["1", "2"],
    "category": ["x", "y"],
    "list_price": [1.0, 2.0],
    "is_active": [True, True],
}
LOG = {
    "user_id": ["a", "b"],
    "offer_id": [None, "o"],
    "exposed_at": ["2026-01-05", "2026-01-05"],
    "propensity": [0.5, 0.5],
    "revenue": [1.0, 2.0],
    "window_s": [60.0, 60.0],
}
USERS = {"user_id": ["a", "b"], "attr_age": [40, 50]}
OFFERS = {"offer_id": ["o"], "mechanic": ["message"], "contact_cost": [0.0], "label": ["letter"]}


def _read_and_clean(uri: str) -> None:
    clean(read_events(uri), where=uri)


Reader = Callable[[str], Any]
FAULTS = [
    (_read_and_clean, EVENTS, {"unit_price": None}, "'unit_price' must be present; got user_id"),
    (_read_and_clean, EVENTS, {"unit_price": ["dear", "1"]}, "'unit_price' must be double; got"),
    (_read_and_clean, EVENTS, {"quantity": [1.5, 1]}, "'quantity' must be int32; got '1.5'"),
    (_read_and_clean, EVENTS, {"at": ["2026-01-05", "soon"]}, "'at' must be timestamp"),
    (_read_and_clean, EVENTS, {"unit_price": [1.0, float("nan")]}, "'unit_price' must have no"),
    (_read_and_clean, EVENTS, {"unit_price": [1.0, float("inf")]}, "'unit_price' must be double"),
    (_read_and_clean, EVENTS, {"unit_price": [-1.0, 1.0]}, "'unit_price' must be possible"),
    (_read_and_clean, EVENTS, {"quantity": [-2, 1]}, "'quantity' must be >= 0; got 1 rows"),
    (_read_and_clean, EVENTS, {"user_id": ["a", None]}, "'user_id' must have no null"),
    (_read_and_clean, EVENTS, {"event_type": ["purchase", "buy"]}, "'event_type' must be one of"),
    (read_catalog, CATALOG, {"item_id": ["1", "1"]}, "'item_id' must be unique; got 1 repeated"),
    (read_catalog, CATALOG, {"list_price": [float("nan"), 1.0]}, "'list_price' must have no null"),
    (read_catalog, CATALOG, {"list_price": [-1.0, 1.0]}, "'list_price' must be at least 0"),
    (read_users, USERS, {"user_id": ["a", "a"]}, "'user_id' must be unique"),
    (read_users, USERS, {"user_id": ["a", None]}, "'user_id' must have no null"),
    (read_campaign_log, LOG, {"propensity": [0.0, 0.5]}, "must be above 0.0 and at most 1.0"),
    (read_campaign_log, LOG, {"propensity": [0.5, 1.2]}, "got 1.2 in row 2"),
    (read_campaign_log, LOG, {"window_s": [0.0, 1.0]}, "'window_s' must be above 0"),
    (read_offers, OFFERS, {"mechanic": ["gift"]}, "'mechanic' must be one of percent_off"),
    (read_offers, OFFERS, {"depth_rate": [1.5]}, "'depth_rate' must be at least 0.0 and at most"),
]  # fmt: skip


def _write(path: Path, columns: dict[str, Sequence[Any]]) -> str:
    if path.suffix == ".parquet":
        pq.write_table(pa.table(dict(columns)), path)
    else:
        cells = [["" if v is None else str(v) for v in c] for c in columns.values()]
        rows = [",".join(columns), *(",".join(row) for row in zip(*cells, strict=True))]
        path.write_text("\n".join(rows) + "\n")
    return str(path)


def _expect(run: Callable[[], Any], where: str, text: str) -> None:
    with pytest.raises(DataError) as caught:
        run()
    message = str(caught.value)
    assert text in message
    assert where in message
    assert "\n" not in message
    assert len(message) < 500
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("extension", [".parquet", ".csv"])
@pytest.mark.parametrize(("read", "good", "fault", "text"), FAULTS, ids=lambda v: str(v)[:40])
def test_a_fault_of_content_is_named(
    tmp_path: Path,
    extension: str,
    read: Reader,
    good: dict[str, Any],
    fault: dict[str, Any],
    text: str,
) -> None:
    columns = {k: v for k, v in {**good, **fault}.items() if v is not None}
    read(_write(tmp_path / f"good{extension}", good))
    _expect(lambda: read(_write(tmp_path / f"bad{extension}", columns)), f"bad{extension}", text)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("e.csv", b"", "must have rows; got an empty file"),
        ("e.csv", b"user_id,item_id,event_type,at,quantity,unit_price\n", "must have rows"),
        ("e.parquet", b"", "must have rows; got an empty file"),
        ("e.parquet", b"PAR1 but nothing behind it", "must be whole, valid parquet"),
        ("e.csv", b"user_id,item_id\na,b,c\n", "must be whole, valid CSV"),
        ("e.csv", b"user_id,item_id\n\xff\xfe,b\n", "must be whole, valid CSV"),
        ("e.csv", b"user_id,user_id\na,b\n", "column names must be unique; got 'user_id' twice"),
        ("e.xlsx", b"PK", "must end in .parquet or .csv"),
    ],
)
def test_a_fault_of_the_file_is_named(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    (tmp_path / name).write_bytes(content)
    _expect(lambda: read_events(str(tmp_path / name)), name, text)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_parquet_is_named(tmp_path: Path, share: float) -> None:
    whole = Path(_write(tmp_path / "whole.parquet", EVENTS)).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: int(len(whole) * share)])
    _expect(lambda: read_events(str(tmp_path / "cut.parquet")), "cut.parquet", "whole, valid")


def test_damaged_pages_of_parquet_are_named(tmp_path: Path) -> None:
    table = pa.table({**EVENTS, "text": ["x" * 500, "y" * 500]})
    pq.write_table(table, tmp_path / "e.parquet", compression="none", use_dictionary=False)
    raw = bytearray((tmp_path / "e.parquet").read_bytes())
    raw[4:60] = b"\xff" * 56
    (tmp_path / "e.parquet").write_bytes(raw)
    _expect(lambda: read_events(str(tmp_path / "e.parquet")), "e.parquet", "must be")


def test_an_absent_file_and_an_absent_directory_are_named(tmp_path: Path) -> None:
    _expect(lambda: read_events(str(tmp_path / "no.csv")), "no.csv", "file must exist")
    _expect(lambda: read_events("ftp://host/e.csv"), "ftp://host/e.csv", "a known URI")
    _expect(lambda: find_adapter(str(tmp_path / "no")), "no", "data directory must exist")


def test_the_faulty_row_of_a_long_column_is_found(tmp_path: Path) -> None:
    n = 10_000
    long = {k: [v[0]] * n for k, v in EVENTS.items()}
    long["unit_price"] = ["1.0"] * 7000 + ["1,0".replace(",", ";")] + ["x"] * (n - 7001)
    uri = _write(tmp_path / "e.parquet", long)
    _expect(lambda: read_events(uri), "e.parquet", "got '1;0' in row 7001")


def test_a_mapping_must_name_canonical_columns_and_present_sources(tmp_path: Path) -> None:
    uri = _write(tmp_path / "e.csv", EVENTS)
    _expect(lambda: read_events(uri, {"usr": "user_id"}), "e.csv", "got 'usr'; known: user_id")
    _expect(
        lambda: read_events(uri, {"user_id": "customer"}),
        "e.csv",
        "column 'customer' (mapped to 'user_id') must be present",
    )
    _expect(
        lambda: read_events(uri, {"discount": "rebate"}),
        "e.csv",
        "column 'rebate' (mapped to 'discount') must be present",
    )


def test_offers_of_a_campaign_log_must_be_known(tmp_path: Path) -> None:
    _write(tmp_path / "campaign_log.csv", LOG)
    where = str(tmp_path)
    read = lambda: find_adapter(where).read(where)  # noqa: E731
    _expect(read, where, "must come with the table offers; got 1 offers and no such file")
    _write(tmp_path / "offers.csv", {**OFFERS, "offer_id": ["p"]})
    _expect(read, where, "'offer_id' must name rows of offers; got 'o'")


def test_a_table_in_two_files_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "events.csv", EVENTS)
    _write(tmp_path / "events.parquet", EVENTS)
    where = str(tmp_path)
    _expect(lambda: find_adapter(where).read(where), where, "table must stand in one file")


def test_a_directory_without_known_files_lists_the_adapters(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    _expect(lambda: find_adapter(str(tmp_path)), str(tmp_path), "canonical, charitable_match")
    with pytest.raises(ConfigError, match="must be one of canonical"):
        find_adapter(str(tmp_path), "excel")
    with pytest.raises(ConfigError, match="must name tables among events"):
        find_adapter(str(tmp_path), "canonical", {"columns": {"event": {}}})
