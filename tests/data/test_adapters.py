"""Adapters on the real data sets; skipped where a set is absent."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.kind import TableSpec
from promo_ray.artifacts.users import USERS
from promo_ray.data.adapters import find_adapter
from promo_ray.data.clean import clean
from promo_ray.data.dataset import Dataset
from promo_ray.data.quality import check_quality
from promo_ray.errors import ConfigError, DataError
from promo_ray.registry import methods

ROOT = Path(os.environ.get("PROMO_RAY_DATA", Path(__file__).parents[3] / "shared" / "data"))
SPECS: dict[str, TableSpec] = {
    "events": EVENTS.tables["events"],
    "catalog": CATALOG.tables["catalog"],
    "users": USERS.tables["users"],
    "campaign_log": CAMPAIGN_LOG.tables["campaign_log"],
    "offers": CAMPAIGN_LOG.tables["offers"],
}


def _read(name: str) -> Dataset:
    if not (ROOT / name).is_dir():
        pytest.skip(f"data set {name} is not in {ROOT}")
    adapter = find_adapter(str(ROOT / name))
    assert adapter.name == name
    return adapter.read(str(ROOT / name))


@pytest.fixture(scope="module")
def hillstrom() -> Dataset:
    return _read("hillstrom")


@pytest.fixture(scope="module")
def charitable_match() -> Dataset:
    return _read("charitable_match")


@pytest.fixture(scope="module")
def complete_journey() -> Dataset:
    return _read("complete_journey")


@pytest.fixture(scope="module")
def online_retail() -> Dataset:
    return _read("online_retail")


@pytest.fixture(params=["hillstrom", "charitable_match", "complete_journey", "online_retail"])
def dataset(request: pytest.FixtureRequest) -> Dataset:
    return request.getfixturevalue(request.param)


def _table(table: pa.Table | None) -> pa.Table:
    assert table is not None
    return table


def test_every_table_meets_its_schema(dataset: Dataset) -> None:
    for name, spec in SPECS.items():
        table = getattr(dataset, name)
        if table is not None:
            assert spec.conform(table, name).schema == table.schema
            assert table.num_rows > 0
    assert dataset.notes


def test_ids_join_across_tables(dataset: Dataset) -> None:
    users = {}
    for name in ("events", "users", "campaign_log"):
        table = getattr(dataset, name)
        users[name] = set() if table is None else set(table.column("user_id").to_pylist())
    if dataset.users is not None:
        assert users["events"] | users["campaign_log"] <= users["users"]
        assert len(users["users"]) == dataset.users.num_rows
    if dataset.events is not None:
        items = _table(dataset.catalog).column("item_id")
        assert check_quality(dataset.events, dataset.catalog).n_unknown_items == 0
        assert pc.count_distinct(items).as_py() == len(items)
    if dataset.campaign_log is not None:
        offers = set(_table(dataset.offers).column("offer_id").to_pylist())
        assert set(dataset.campaign_log.column("offer_id").drop_null().to_pylist()) == offers


def test_events_pass_the_default_policy(dataset: Dataset) -> None:
    if dataset.events is None:
        pytest.skip("a trial without events")
    report = check_quality(dataset.events)
    assert not any(report.impossible.values())
    assert report.n_out_of_order == 0
    cleaned, counts = clean(dataset.events)
    assert set(counts) <= {"dropped_duplicates"}
    assert dataset.events.num_rows - cleaned.num_rows == report.n_duplicates


def test_design_document_is_complete(dataset: Dataset) -> None:
    if dataset.campaign_log is None:
        assert dataset.design is None
        return
    design = dataset.design
    assert design is not None
    assert set(design) == {
        "is_randomized",
        "outcome",
        "unit",
        "currency",
        "control_propensity",
        "note",
    }
    assert dataset.campaign_log.column(design["outcome"]).null_count == 0
    has_propensity = dataset.campaign_log.column("propensity").null_count == 0
    assert has_propensity == design["is_randomized"]


@pytest.mark.parametrize("name", ["hillstrom", "charitable_match"])
def test_logged_propensities_of_a_trial_match_the_arms(
    name: str, request: pytest.FixtureRequest
) -> None:
    log = pl.DataFrame(_table(request.getfixturevalue(name).campaign_log))
    arms = log.group_by("offer_id").agg(pl.len(), pl.col("propensity").mean())
    assert arms["propensity"].sum() == pytest.approx(1.0)
    n = log.height
    for _, count, propensity in arms.iter_rows():
        # within 4 standard errors of a binomial
        spread = 4 * np.sqrt(propensity * (1 - propensity) / n)
        assert abs(count / n - propensity) < spread
    # sum of 1 / propensity over an arm estimates the number of users
    assert (1 / log["propensity"]).sum() == pytest.approx(n * arms.height, rel=0.02)


def test_hillstrom_has_the_known_rows_and_rates(hillstrom: Dataset) -> None:
    log = pl.DataFrame(_table(hillstrom.campaign_log))
    assert log.height == _table(hillstrom.users).num_rows == 44_633
    rates = {k: v for k, v in log.group_by("offer_id").agg(pl.col("is_visit").mean()).iter_rows()}
    # whole-set rates as published; these are 70 % of the rows
    for arm, rate in ((None, 0.1062), ("mens_email", 0.1828), ("womens_email", 0.1514)):
        assert rates[arm] == pytest.approx(rate, abs=0.008)
    names = set(_table(hillstrom.users).column_names)
    assert names == {"user_id", "is_consenting"} | {
        f"attr_{n}"
        for n in ("recency", "history", "mens", "womens", "newbie", "zip_code", "channel")
    }


def test_charitable_match_keeps_outcomes_and_arm_out_of_the_users(
    charitable_match: Dataset,
) -> None:
    users = _table(charitable_match.users)
    assert users.num_rows == 34_998
    banned = ("treatment", "ratio", "threshold", "ask_level", "amount", "gave", "change")
    assert not [n for n in users.column_names if any(b in n for b in banned)]
    assert {"protected_female", "protected_pwhite", "protected_pblack"} <= set(users.column_names)
    assert users.column("attr_median_hhincome").null_count == 1320
    # nothing known before the letter tells who gave: no column follows the gift
    amount = _table(charitable_match.campaign_log).column("revenue").to_numpy()
    for name in users.column_names[2:]:
        value = np.nan_to_num(users.column(name).to_numpy())
        assert abs(np.corrcoef(value, amount)[0, 1]) < 0.25


def test_charitable_match_has_the_known_means(charitable_match: Dataset) -> None:
    log = pl.DataFrame(_table(charitable_match.campaign_log))
    means = {k: v for k, v in log.group_by("offer_id").agg(pl.col("revenue").mean()).iter_rows()}
    known = {None: 0.813, "match_1": 0.937, "match_2": 1.026, "match_3": 0.933}
    for arm, mean in known.items():
        assert means[arm] == pytest.approx(mean, abs=0.15)


def test_complete_journey_has_piece_counts_and_prices_that_add_up(
    complete_journey: Dataset,
) -> None:
    events = pl.DataFrame(_table(complete_journey.events))
    assert events.height == 58_116
    assert events["user_id"].n_unique() == 2332
    assert events["quantity"].max() == 90  # fuel runs to 32,623
    raw = pl.read_parquet(ROOT / "complete_journey" / "transactions_sample.parquet")
    line = (pl.col("unit_price") * pl.col("quantity") + pl.col("discount")).alias("shelf")
    ours = events.select("order_id", "item_id", line)
    shelf = pl.col("sales_value") + pl.col("retail_disc") + pl.col("coupon_match_disc")
    theirs = raw.select(
        pl.col("basket_id").cast(pl.String).alias("order_id"),
        pl.col("product_id").cast(pl.String).alias("item_id"),
        shelf.alias("want"),
    )
    both = ours.join(theirs, on=["order_id", "item_id"])
    assert both.height == events.height
    # the three discounts and what was paid make the shelf price, but for 20 over-valued coupons
    assert int(((both["shelf"] - both["want"]).abs() > 1e-9).sum()) <= 20
    category = _table(complete_journey.catalog).column("category")
    assert pc.any(pc.equal(category, "GROCERY > EGGS > EGGS - X-LARGE")).as_py()


def test_complete_journey_log_has_history_before_and_its_window_inside_the_data(
    complete_journey: Dataset,
) -> None:
    log = pl.DataFrame(_table(complete_journey.campaign_log))
    events = pl.DataFrame(_table(complete_journey.events))
    counts = {k: v for k, v in log.group_by("offer_id").len().iter_rows()}
    assert counts == {"coupons_a": 1077, "coupons_b": 507, "coupons_c": 224, None: 5113}
    assert log.select("user_id", "exposed_at").is_duplicated().sum() == 0
    earliest, latest = log["exposed_at"].min(), log["exposed_at"].max()
    assert earliest == datetime(2017, 6, 28, tzinfo=UTC)
    assert isinstance(latest, datetime)
    assert latest + timedelta(days=28) <= events["at"].max()
    first_at = events.group_by("user_id").agg(pl.col("at").min())
    joined = log.join(first_at, on="user_id")
    assert joined.height == log.height
    assert (joined["at"] < joined["exposed_at"]).all()


def test_complete_journey_outcomes_are_those_of_the_window(complete_journey: Dataset) -> None:
    log = pl.DataFrame(_table(complete_journey.campaign_log))
    folder = ROOT / "complete_journey"
    raw = pl.read_parquet(folder / "transactions_sample.parquet").join(
        pl.read_parquet(folder / "products.parquet").filter(pl.col("department") != "COUPON"),
        on="product_id",
    )
    lines = raw.with_columns(
        user_id=pl.col("household_id").cast(pl.String),
        at=pl.col("transaction_timestamp").dt.replace_time_zone("UTC"),
    ).filter(pl.col("quantity").is_between(1, 1000))
    for row in log.filter(pl.col("offer_id") == "coupons_a").head(25).iter_rows(named=True):
        end = row["exposed_at"] + timedelta(days=28)
        own = lines.filter(
            (pl.col("user_id") == row["user_id"])
            & (pl.col("at") >= row["exposed_at"])
            & (pl.col("at") < end)
        )
        assert row["revenue"] == pytest.approx(own["sales_value"].sum(), abs=1e-9)
        assert row["is_conversion"] == (own.height > 0)
        taken_off = (own["coupon_disc"] + own["coupon_match_disc"]).sum()
        assert 0.0 <= row["cost"] <= taken_off + 1e-9
    assert log.filter(pl.col("offer_id").is_null())["cost"].sum() == 0.0


def test_complete_journey_controls_are_under_no_campaign_in_their_window(
    complete_journey: Dataset,
) -> None:
    folder = ROOT / "complete_journey"
    runs = pl.read_parquet(folder / "campaign_descriptions.parquet")
    mailed = pl.read_parquet(folder / "campaigns.parquet").join(runs, on="campaign_id")
    mailed = mailed.select(
        pl.col("household_id").cast(pl.String).alias("user_id"),
        pl.col("start_date", "end_date").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
    )
    log = pl.DataFrame(_table(complete_journey.campaign_log))
    controls = log.filter(pl.col("offer_id").is_null())
    touched = controls.join(mailed, on="user_id").filter(
        (pl.col("start_date") < pl.col("exposed_at") + timedelta(days=28))
        & (pl.col("end_date") >= pl.col("exposed_at"))
    )
    assert touched.height == 0


def test_complete_journey_protects_age_marriage_and_children(complete_journey: Dataset) -> None:
    users = _table(complete_journey.users)
    assert users.num_rows == 2341
    attributes = [n for n in users.column_names if n.startswith("attr_")]
    assert attributes == ["attr_income", "attr_home_ownership", "attr_household_size"]
    assert users.column("attr_income").null_count == 2341 - 801
    coupons = _table(complete_journey.offers).select(["offer_id", "mechanic", "amount"])
    assert coupons.to_pylist() == [
        {"offer_id": "coupons_a", "mechanic": "amount_off", "amount": 0.75},
        {"offer_id": "coupons_b", "mechanic": "amount_off", "amount": 0.75},
        {"offer_id": "coupons_c", "mechanic": "amount_off", "amount": 0.5},
    ]


def test_complete_journey_refuses_a_cutoff_that_leaves_no_campaign() -> None:
    folder = str(ROOT / "complete_journey")
    if not Path(folder).is_dir():
        pytest.skip(f"data set complete_journey is not in {ROOT}")
    with pytest.raises(DataError, match="got none"):
        find_adapter(folder, settings={"history_days": 280}).read(folder)
    with pytest.raises(ConfigError, match="window_days"):
        find_adapter(folder, settings={"window_days": 0})


def test_online_retail_joins_the_years_without_the_days_in_both(online_retail: Dataset) -> None:
    events = pl.DataFrame(_table(online_retail.events))
    assert events.height == 805_909
    assert events["event_type"].value_counts().sort("event_type").rows() == [
        ("purchase", 788_267),
        ("return", 17_642),
    ]
    assert events["quantity"].min() == 1
    december = events.filter(
        pl.col("at").is_between(
            datetime(2010, 12, 1, tzinfo=UTC), datetime(2010, 12, 10, tzinfo=UTC)
        )
    )
    # the first year's copy, by its invoices; the second year's orders are customer-time
    assert december.height > 0
    assert not december["order_id"].str.contains("-").any()
    later = events.filter(pl.col("at") > datetime(2010, 12, 10, tzinfo=UTC))
    assert later["order_id"].str.contains("-").all()


def test_online_retail_items_keep_their_code_in_the_second_year(online_retail: Dataset) -> None:
    catalog = pl.DataFrame(_table(online_retail.catalog))
    lantern = catalog.filter(pl.col("title") == "WHITE HANGING HEART T-LIGHT HOLDER")
    assert lantern["item_id"].to_list() == ["85123A"]
    events = pl.DataFrame(_table(online_retail.events)).filter(pl.col("item_id") == "85123A")
    assert set(events["at"].dt.year()) == {2009, 2010, 2011}
    assert catalog["item_id"].is_in(["POST", "M", "D", "BANK CHARGES"]).sum() == 0
    assert (catalog["list_price"] > 0).mean() > 0.999


def test_own_data_come_in_through_a_column_mapping(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(
        "customer,sku,event_type,when,quantity,price\nu1,i1,purchase,2026-01-05,2,1.5\n"
    )
    log = pa.table(
        {
            "user_id": ["u1", "u2"],
            "offer_id": [None, "o"],
            "exposed_at": [datetime(2026, 1, 5, tzinfo=UTC)] * 2,
            "propensity": [0.25, 0.75],
            "revenue": [1.0, 2.0],
            "window_s": [60.0, 60.0],
        }
    )
    pq.write_table(log, tmp_path / "campaign_log.parquet")
    (tmp_path / "offers.csv").write_text(
        "offer_id,mechanic,depth_rate,contact_cost,label\no,percent_off,0.1,0.01,ten off\n"
    )
    names = {"user_id": "customer", "item_id": "sku", "at": "when", "unit_price": "price"}
    adapter = find_adapter(str(tmp_path), settings={"columns": {"events": names}})
    dataset = adapter.read(str(tmp_path))
    assert _table(dataset.events).column("user_id").to_pylist() == ["u1"]
    assert dataset.catalog is None
    assert dataset.design == {
        "is_randomized": True,
        "outcome": "revenue",
        "unit": "USD",
        "currency": "USD",
        "control_propensity": 0.25,
        "note": "own data",
    }
    other = find_adapter(
        str(tmp_path), "canonical", {"columns": {"events": names}, "outcome": "is_visit"}
    )
    with pytest.raises(DataError, match="outcome is_visit must be known in every row"):
        other.read(str(tmp_path))


def test_own_log_of_a_control_group_alone_needs_no_offers(tmp_path: Path) -> None:
    (tmp_path / "campaign_log.csv").write_text(
        "user_id,exposed_at,is_visit,window_s\nu1,2026-01-05,1,60\n"
    )
    dataset = find_adapter(str(tmp_path)).read(str(tmp_path))
    assert _table(dataset.offers).num_rows == 0
    assert dataset.design is not None
    assert (dataset.design["is_randomized"], dataset.design["unit"]) == (False, "visits")


def test_no_two_adapters_recognize_the_same_files() -> None:
    sets = [
        {"hillstrom.parquet", "SOURCE.md"},
        {"gifts.parquet", "SOURCE.md"},
        {"year_2009_2010.parquet", "year_2010_2011.parquet"},
        {"events.csv", "catalog.csv"},
        {"users.parquet", "items.parquet"},
    ]
    found = [
        [n for n, cls in methods("data.adapters").items() if cls().recognizes(frozenset(files))]
        for files in sets
    ]
    assert found == [["hillstrom"], ["charitable_match"], ["online_retail"], ["canonical"], []]
