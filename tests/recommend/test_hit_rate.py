from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from promo_ray.execution import iterate
from promo_ray.recommend.hit_rate import HitRate, hit_rate, split_last_order
from promo_ray.recommend.item_neighbors import ItemNeighbors
from promo_ray.recommend.popularity import Popularity
from promo_ray.recommend.top_items import UserHistories, top_items, user_histories


def test_the_last_order_is_held_out_of_users_with_two(make_events, as_of):
    days = timedelta(days=1)
    rows = [
        ("a", "x", as_of - 9 * days, "o1"),
        ("a", "y", as_of - 2 * days, "o2"),
        ("a", "z", as_of - 2 * days, "o2"),
        ("b", "x", as_of - 3 * days, "o3"),
    ]
    events = make_events(pd.DataFrame(rows, columns=["user_id", "item_id", "at", "order_id"]))
    split = split_last_order(events)
    assert split.held_out.to_pylist() == [{"user_id": "a", "item_ids": ["y", "z"]}]
    assert split.history["order_id"].to_pylist() == ["o1", "o3"]
    assert split.history.schema == events.schema


def test_hits_are_counted_over_users_with_a_held_out_order():
    names = ["user_id", "item_ids"]
    top = pa.table([["a", "b", "c"], [["x"], ["y"], ["z"]]], names=names)
    held_out = pa.table([["a", "b", "d"], [["x", "q"], ["q"], ["x"]]], names=names)
    assert hit_rate(top, held_out) == HitRate(3, 1)
    assert HitRate(0, 0).rate == 0.0
    assert HitRate(4, 1).rate == 0.25


def test_neighbors_beat_popularity_on_a_gift_shop(online_retail):
    split = split_last_order(online_retail)
    end = max(online_retail["at"].to_pylist()) + timedelta(seconds=1)
    neighbors = iterate(ItemNeighbors(as_of=end), [split.history]).state
    popular = iterate(Popularity(as_of=end), [split.history]).state
    users = split.held_out["user_id"].to_pylist()
    blank = UserHistories(tuple(users), np.zeros(len(users) + 1, np.int64), np.array([], np.str_))
    base = hit_rate(top_items(blank, neighbors, popular, 10), split.held_out)
    histories = user_histories(split.history, users, end)
    got = hit_rate(top_items(histories, neighbors, popular, 10), split.held_out)
    assert got.n_users == base.n_users > 1000
    assert got.rate > 1.3 * base.rate
