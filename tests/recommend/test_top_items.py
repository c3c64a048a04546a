import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from promo_ray.artifacts.recommender import RECOMMENDER
from promo_ray.errors import ConfigError
from promo_ray.execution import iterate
from promo_ray.recommend.item_neighbors import ItemNeighbors, Neighbors
from promo_ray.recommend.popularity import Popular, Popularity
from promo_ray.recommend.top_items import top_items, user_histories

USERS = [f"u{i:03d}" for i in range(205)]  # the last five have no purchase


@pytest.fixture(scope="module")
def models(events, as_of):
    neighbors = iterate(ItemNeighbors(as_of=as_of, top_k=6), [events]).state
    return neighbors, iterate(Popularity(as_of=as_of), [events]).state


def brute_force(history, neighbors, popular, n, is_rebuy_allowed):
    scores = dict.fromkeys(history, 1.0) if is_rebuy_allowed else {}
    for row in neighbors.table().to_pylist():
        if row["item_id"] in history:
            other = row["neighbor_id"]
            scores[other] = scores.get(other, 0.0) + row["similarity"]
    if not is_rebuy_allowed:
        scores = {i: s for i, s in scores.items() if i not in history}
    chosen = sorted(scores, key=lambda i: (-round(scores[i], 9), i))[:n]
    rest = [
        i
        for i in popular.item_ids.tolist()
        if i not in chosen and (is_rebuy_allowed or i not in history)
    ]
    return chosen + rest[: n - len(chosen)]


@pytest.mark.parametrize("is_rebuy_allowed", [True, False])
@pytest.mark.parametrize("n", [3, 25])
def test_items_equal_brute_force(events, as_of, models, is_rebuy_allowed, n):
    histories = user_histories(events, USERS, as_of, max_items=4)
    top = top_items(histories, *models, n, is_rebuy_allowed=is_rebuy_allowed)
    assert top["user_id"].to_pylist() == USERS
    for i, got in enumerate(top["item_ids"].to_pylist()):
        own = histories.item_ids[histories.offsets[i] : histories.offsets[i + 1]].tolist()
        assert got == brute_force(own, *models, n, is_rebuy_allowed)


def test_histories_hold_the_last_distinct_items(make_events, as_of):
    days = pd.Timedelta(days=1)
    rows = [
        ("a", i, as_of - d * days) for i, d in [("x", 9), ("y", 3), ("x", 1), ("z", 5), ("w", 0)]
    ]
    events = make_events(pd.DataFrame(rows, columns=["user_id", "item_id", "at"]))
    histories = user_histories(events, ["b", "a"], as_of, max_items=2)
    assert histories.user_ids == ("a", "b")
    assert histories.offsets.tolist() == [0, 2, 2]
    assert histories.item_ids.tolist() == ["x", "y"]


def test_users_without_a_history_get_what_is_popular(events, as_of, models):
    top = top_items(user_histories(events, USERS, as_of), *models, 5)
    assert top["item_ids"].to_pylist()[-1] == models[1].item_ids[:5].tolist()


def test_rows_are_equal_for_any_split_of_users(events, as_of, models):
    whole = top_items(user_histories(events, USERS, as_of), *models, 8)
    for n_shards in (7, 64):
        parts = np.array_split(USERS, n_shards)
        tables = [top_items(user_histories(events, p.tolist(), as_of), *models, 8) for p in parts]
        assert pa.concat_tables(tables).equals(whole)


def test_equal_scores_go_to_the_lower_id_whatever_the_order_of_adding():
    # i1 gets 0.1 + 0.2 + 0.3, i2 gets 0.3 + 0.2 + 0.1: unequal floats, equal scores
    ids = np.array(["a", "b", "c", "i1", "i2"])
    item, other = np.repeat([0, 1, 2], 2), np.tile([3, 4], 3)
    near = np.array([0.3, 0.1, 0.2, 0.2, 0.1, 0.3])
    counts = np.ones(6, dtype=np.int64)
    neighbors = Neighbors(ids, np.ones(5, np.int64), item, other, near, counts)
    events = pa.table(
        {
            "user_id": ["u"] * 3,
            "item_id": ["a", "b", "c"],
            "event_type": ["purchase"] * 3,
            "at": pa.array([0, 1, 2], pa.timestamp("us", tz="UTC")),
            "quantity": [1] * 3,
            "order_id": pa.array([None] * 3, pa.string()),
        }
    )
    popular = Popular(28, np.array([], dtype=np.str_), np.zeros(0, np.int64))
    histories = user_histories(events, ["u"], pd.Timestamp("2026-01-01", tz="UTC").to_pydatetime())
    top = top_items(histories, neighbors, popular, 2, is_rebuy_allowed=False)
    assert top["item_ids"].to_pylist() == [["i1", "i2"]]


def test_table_is_of_the_kind(events, as_of, models):
    top = top_items(user_histories(events, USERS, as_of), *models, 5)
    RECOMMENDER.tables["top"].conform(top, "top")


def test_nothing_bought_anywhere_gives_empty_rows(events, as_of):
    empty = events.slice(0, 0)
    neighbors = iterate(ItemNeighbors(as_of=as_of), [empty]).state
    popular = iterate(Popularity(as_of=as_of), [empty]).state
    top = top_items(user_histories(events, USERS[:2], as_of), neighbors, popular, 3)
    assert top["item_ids"].to_pylist() == [[], []]


def test_bad_settings_are_refused(events, as_of, models):
    with pytest.raises(ConfigError, match="max_items must be >= 1"):
        user_histories(events, USERS, as_of, max_items=0)
    with pytest.raises(ConfigError, match="n must be >= 1"):
        top_items(user_histories(events, USERS, as_of), *models, 0)
