import math
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from promo_ray.errors import DataError
from promo_ray.profiles.user_table import user_table

DAY = timedelta(days=1)


def one(make_events, make_users, as_of, rows, catalog=None):
    table = user_table(
        make_events([{"user_id": "a"} | r for r in rows]), make_users(["a"]), catalog, as_of
    )
    return table.to_pylist()[0]


def test_measures_of_a_user_by_hand(make_events, make_users, as_of, make_catalog):
    got = one(
        make_events,
        make_users,
        as_of,
        [
            {"event_type": "view", "at": as_of - 100 * DAY},
            # a Saturday and a Sunday, then a Monday
            {
                "at": as_of - 86 * DAY,
                "order_id": "o1",
                "quantity": 2,
                "unit_price": 1.5,
                "discount": 1.0,
            },
            {
                "at": as_of - 86 * DAY,
                "order_id": "o1",
                "item_id": "i1",
                "unit_price": 3.0,
                "discount": 0.0,
            },
            {
                "at": as_of - 50 * DAY,
                "order_id": "o2",
                "item_id": "i4",
                "unit_price": 6.0,
                "discount": 0.0,
            },
            {
                "at": as_of - 7 * DAY,
                "order_id": "o3",
                "quantity": 3,
                "unit_price": 2.0,
                "discount": 0.0,
            },
            {"at": as_of - 5 * DAY, "event_type": "return", "quantity": 1, "unit_price": 2.0},
            {"at": as_of, "order_id": "later", "unit_price": 99.0},
        ],
        make_catalog(5),
    )
    assert (got["n_events"], got["frequency"], got["n_views"]) == (6, 3, 1)
    assert (got["orders_28d"], got["orders_91d"]) == (1, 3)
    assert got["recency_days"] == 7.0
    assert got["first_order_days"] == 86.0
    assert got["tenure_days"] == 100.0
    assert got["monetary"] == pytest.approx(18 / 3)
    assert got["basket_median"] == 6.0
    assert got["deal_share"] == pytest.approx(3 / 18)
    assert got["units_per_order"] == pytest.approx(7 / 3)
    assert got["n_categories"] == 2  # i0 and i4 share one
    assert got["return_share"] == pytest.approx(2 / 18)
    assert got["gap_mean_days"] == pytest.approx((36 + 43) / 2)
    assert got["gap_p90_days"] == pytest.approx(36 + 0.9 * 7)
    days = [(as_of - d * DAY).weekday() >= 5 for d in (86, 50, 7)]
    assert got["weekend_share"] == pytest.approx(np.mean(days))
    logs = np.array([math.log(1.5 / 2), 0.0, 0.0, 0.0])
    assert got["price_lines"] == 4
    assert got["price_log_mean"] == pytest.approx(logs.mean(), abs=1e-6)
    assert got["price_log_ss"] == pytest.approx(((logs - logs.mean()) ** 2).sum(), abs=1e-6)


def test_events_at_or_after_the_instant_do_not_count(shop, as_of):
    users, events, catalog = shop
    cut = as_of - 60 * DAY
    past = events.filter(pa.array([t < cut for t in events["at"].to_pylist()]))
    assert user_table(events, users, catalog, cut).equals(user_table(past, users, catalog, cut))


def test_rows_have_the_same_bits_in_any_shard(shop, as_of):
    users, events, catalog = shop
    whole = user_table(events, users, catalog, as_of)
    ids = np.array(users["user_id"].to_pylist())
    owner = np.array(events["user_id"].to_pylist())
    for n_shards in (7, 64):
        rng = np.random.default_rng(n_shards)
        shard = rng.integers(0, n_shards, len(ids))
        parts = [
            user_table(
                events.filter(pa.array(np.isin(owner, ids[shard == s]))),
                users.filter(pa.array(shard == s)),
                catalog,
                as_of,
            )
            for s in range(n_shards)
        ]
        assert pa.concat_tables(parts).sort_by("user_id").equals(whole)


def test_measures_equal_pandas(shop, as_of):
    users, events, catalog = shop
    got = user_table(events, users, catalog, as_of).to_pandas().set_index("user_id")
    frame = events.to_pandas()
    bought = frame[frame.event_type == "purchase"].assign(
        day=frame["at"].dt.date, spend=lambda f: (f.quantity * f.unit_price).round(2)
    )
    orders = bought.groupby(["user_id", "day"]).agg(at=("at", "min"), spend=("spend", "sum"))
    by_user = orders.groupby("user_id")
    pd.testing.assert_series_equal(
        got["monetary"].dropna(), by_user["spend"].mean(), check_names=False, rtol=1e-12
    )
    pd.testing.assert_series_equal(
        got["basket_median"].dropna(), by_user["spend"].median(), check_names=False, rtol=1e-12
    )
    gaps = orders["at"].groupby("user_id").diff().dt.total_seconds() / 86400
    pd.testing.assert_series_equal(
        got["gap_p90_days"].dropna(),
        gaps.dropna().groupby("user_id").quantile(0.9),
        check_names=False,
        rtol=1e-9,
    )
    deal = bought[bought.discount > 0].groupby("user_id")["spend"].sum()
    share = (deal / bought.groupby("user_id")["spend"].sum()).fillna(0.0)
    pd.testing.assert_series_equal(got["deal_share"].dropna(), share, check_names=False, rtol=1e-12)


def test_users_without_events_have_zero_counts_and_no_measures(make_events, make_users, as_of):
    table = user_table(make_events([]), make_users(["b", "a"]), None, as_of)
    assert table["user_id"].to_pylist() == ["a", "b"]
    row = table.to_pylist()[0]
    assert row["frequency"] == row["n_views"] == row["n_events"] == 0
    assert row["recency_days"] is row["deal_share"] is row["monetary"] is None


def test_what_the_data_do_not_record_is_null(make_events, make_users, as_of):
    row = one(make_events, make_users, as_of, [{"at": as_of - DAY}])
    assert row["deal_share"] is None
    assert row["n_categories"] is None
    assert row["price_lines"] == 0
    assert row["gap_mean_days"] is None
    assert row["return_share"] == 0.0


def test_lines_of_one_day_are_one_order_without_order_ids(make_events, make_users, as_of):
    row = one(
        make_events,
        make_users,
        as_of,
        [{"at": as_of - DAY}, {"at": as_of - DAY + timedelta(hours=5)}, {"at": as_of - 3 * DAY}],
    )
    assert row["frequency"] == 2


def test_attributes_pass_and_protected_columns_do_not(shop, as_of):
    users, events, catalog = shop
    names = user_table(events, users, catalog, as_of).column_names
    assert {"attr_age", "attr_region"} <= set(names)
    assert not [n for n in names if n.startswith("protected_")]


def test_bad_input_is_refused(shop, as_of):
    users, events, catalog = shop
    with pytest.raises(DataError, match="time zone"):
        user_table(events, users, catalog, datetime(2026, 1, 1))
    with pytest.raises(DataError, match="user_id must be unique"):
        user_table(events, pa.concat_tables([users, users]), catalog, as_of)
    with pytest.raises(DataError, match="events: column 'at'"):
        user_table(events.drop_columns(["at"]), users, catalog, as_of)
