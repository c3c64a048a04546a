from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from promo_ray.artifacts.recommender import RECOMMENDER
from promo_ray.errors import ConfigError
from promo_ray.execution import iterate
from promo_ray.recommend.item_neighbors import ItemNeighbors


def brute_force(baskets, min_joint, shrinkage, top_k):
    buyers: dict[str, int] = {}
    joint: dict[tuple[str, str], int] = {}
    for items in baskets:
        for item in items:
            buyers[item] = buyers.get(item, 0) + 1
        for pair in combinations(sorted(items), 2):
            joint[pair] = joint.get(pair, 0) + 1
    near: dict[str, list] = {}
    for (a, b), n in joint.items():
        if n >= min_joint:
            value = n / np.sqrt(float(buyers[a]) * buyers[b]) * (n / (n + shrinkage))
            near.setdefault(a, []).append((-value, b, n))
            near.setdefault(b, []).append((-value, a, n))
    return [
        (item, other, -value, n)
        for item in sorted(near)
        for value, other, n in sorted(near[item])[:top_k]
    ]


def rows_of(state):
    return [tuple(r.values()) for r in state.table().to_pylist()]


def test_neighbors_equal_brute_force(events, as_of):
    frame = events.to_pandas()
    expected = brute_force(frame.groupby("user_id")["item_id"].apply(set), 2, 5.0, 4)
    state = iterate(ItemNeighbors(as_of=as_of, top_k=4), [events]).state
    assert rows_of(state) == expected


def test_groceries_equal_brute_force(groceries, as_of):
    baskets, events = groceries
    sets = baskets.assign(item=baskets["item"].astype(str)).groupby("basket")["item"].apply(set)
    method = ItemNeighbors(as_of=as_of, top_k=10, min_joint=10, shrinkage=0.0)
    assert rows_of(iterate(method, [events]).state) == brute_force(sets, 10, 0.0, 10)


def test_states_are_equal_for_any_split(events, as_of, split_users):
    method = ItemNeighbors(as_of=as_of, top_k=5)
    one = iterate(method, [events]).state
    for n_shards in (7, 64):
        state = iterate(method, split_users(events, n_shards)).state
        for a, b in zip(state, one, strict=True):
            np.testing.assert_array_equal(a, b)


def test_table_is_of_the_kind_and_similarities_lie_in_zero_to_one(events, as_of):
    state = iterate(ItemNeighbors(as_of=as_of), [events]).state
    RECOMMENDER.tables["neighbors"].conform(state.table(), "neighbors")
    assert state.similarity.min() > 0
    assert state.similarity.max() <= 1
    assert not np.any(state.item == state.neighbor)


def test_a_reseller_counts_with_the_last_items_only(make_events, as_of):
    days = pd.Timedelta(days=1)
    rows = [("reseller", f"i{k:04d}", as_of - (k + 1) * days) for k in range(1000)]
    events = make_events(pd.DataFrame(rows, columns=["user_id", "item_id", "at"]))
    method = ItemNeighbors(as_of=as_of, min_joint=1, max_items_per_user=3)
    state = iterate(method, [events]).state
    assert state.item_ids.tolist() == ["i0000", "i0001", "i0002"]
    assert len(state.item) == 6


def test_no_purchase_gives_no_neighbor(events, as_of):
    empty = events.slice(0, 0)
    state = iterate(ItemNeighbors(as_of=as_of), [empty, empty]).state
    assert state.table().num_rows == 0


def test_bad_settings_are_refused(as_of):
    with pytest.raises(ConfigError, match="top_k >= 1"):
        ItemNeighbors(as_of=as_of, top_k=0)
    with pytest.raises(ConfigError, match="shrinkage must be >= 0"):
        ItemNeighbors(as_of=as_of, shrinkage=float("nan"))
