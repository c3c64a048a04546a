from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from promo_ray.artifacts.recommender import RECOMMENDER
from promo_ray.errors import ConfigError, DataError
from promo_ray.execution import iterate
from promo_ray.recommend.popularity import Popularity


def test_counts_equal_pandas_in_the_window(events, as_of):
    got = iterate(Popularity(as_of=as_of, window_days=30), [events]).state
    frame = events.to_pandas()
    inside = frame[frame["at"] >= as_of - timedelta(days=30)]
    expected = inside.groupby("item_id")["user_id"].nunique()
    assert dict(zip(got.item_ids.tolist(), got.n_buyers.tolist(), strict=True)) == dict(expected)
    assert np.all(np.diff(got.n_buyers) <= 0)


def test_states_are_equal_for_any_split(events, as_of, split_users):
    method = Popularity(as_of=as_of)
    one = iterate(method, [events]).state
    for n_shards in (7, 64):
        state = iterate(method, split_users(events, n_shards)).state
        np.testing.assert_array_equal(state.item_ids, one.item_ids)
        np.testing.assert_array_equal(state.n_buyers, one.n_buyers)


def test_window_ends_are_exact_buyers_are_distinct_and_ties_go_by_id(make_events, as_of):
    rows = [
        ("a", "at_the_end", as_of),
        ("a", "too_old", as_of - timedelta(days=28, seconds=1)),
        ("a", "z", as_of - timedelta(days=28)),
        ("a", "y", as_of - timedelta(seconds=1)),
        ("a", "y", as_of - timedelta(days=2)),
    ]
    events = make_events(pd.DataFrame(rows, columns=["user_id", "item_id", "at"]))
    state = iterate(Popularity(as_of=as_of), [events]).state
    assert state.item_ids.tolist() == ["y", "z"]
    assert state.n_buyers.tolist() == [1, 1]


def test_table_is_of_the_kind(events, as_of):
    state = iterate(Popularity(as_of=as_of, window_days=7), [events]).state
    table = RECOMMENDER.tables["popular"].conform(state.table(), "popular")
    assert set(table["window_days"].to_pylist()) == {7}


def test_no_purchase_gives_no_item(events, as_of):
    state = iterate(Popularity(as_of=as_of), [events.slice(0, 0)]).state
    assert state.table().num_rows == 0


def test_bad_input_is_refused(events, as_of):
    with pytest.raises(ConfigError, match="window_days must be >= 1; got 0"):
        Popularity(as_of=as_of, window_days=0)
    with pytest.raises(ConfigError, match="time zone"):
        Popularity(as_of=datetime(2026, 1, 1))
    with pytest.raises(DataError, match="events: column 'item_id'"):
        iterate(Popularity(as_of=as_of), [events.drop_columns(["item_id"])])
