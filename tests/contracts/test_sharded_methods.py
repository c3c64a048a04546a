import pickle
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from promo_ray import registry
from promo_ray.profiles.kmeans import Points
from promo_ray.testing.sharded import check_sharded_method, difference, is_sharded_method

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)


def matrices(rng):
    return [rng.normal(size=(n, 4)) for n in (40, 0, 25, 61, 9)]


def points(rng):
    shards = matrices(rng)
    starts = np.cumsum([0, *map(len, shards)])
    return [
        Points(x, np.arange(s, s + len(x), dtype=np.uint64))
        for x, s in zip(shards, starts, strict=False)
    ]


def user_tables(rng):
    tables = []
    for n in (30, 0, 12, 45):
        orders = rng.integers(0, 9, n)
        none = orders == 0
        tables.append(
            pa.table(
                {
                    "frequency": pa.array(orders, pa.int32()),
                    "recency_days": pa.array(rng.exponential(30, n), mask=none),
                    "monetary": pa.array(rng.lognormal(3, 1, n), mask=none),
                    "price_lines": pa.array(orders * 2, pa.int32()),
                    "price_log_mean": pa.array(rng.normal(-0.1, 0.1, n), mask=none),
                    "price_log_ss": pa.array(rng.exponential(0.1, n), mask=none),
                    "attr_region": pa.array(rng.choice(["n", "s", "e"], n).tolist(), pa.string()),
                }
            )
        )
    return tables


def event_tables(rng):
    tables = []
    for shard, n in enumerate((60, 0, 45, 80)):
        users = [f"{shard}-{u}" for u in rng.integers(0, 9, n)]
        at = [AS_OF - timedelta(seconds=int(s)) for s in rng.integers(1, 40 * 86400, n)]
        tables.append(
            pa.table(
                {
                    "user_id": pa.array(users, pa.string()),
                    "item_id": pa.array([f"i{i}" for i in rng.integers(0, 12, n)], pa.string()),
                    "event_type": pa.array(["purchase"] * n, pa.string()),
                    "at": pa.array(at, pa.timestamp("us", tz="UTC")),
                    "quantity": pa.array([1] * n, pa.int32()),
                    "order_id": pa.array([None] * n, pa.string()),
                }
            )
        )
    return tables


EXAMPLES = {
    ("profiles", "features"): ({}, user_tables),
    ("profiles", "kmeans"): ({"reservoir_size": 50}, points),
    ("profiles", "moments"): ({}, matrices),
    ("profiles", "pca"): ({}, matrices),
    ("profiles", "price_sensitivity"): ({}, user_tables),
    ("profiles", "rfm"): ({}, user_tables),
    ("recommend", "item_neighbors"): ({"as_of": AS_OF}, event_tables),
    ("recommend", "popularity"): ({"as_of": AS_OF}, event_tables),
}


def test_every_registered_sharded_method_has_an_example():
    registered = {
        (family, name)
        for family in ("profiles", "recommend")
        for name, cls in registry.methods(family).items()
        if is_sharded_method(cls)
    }
    assert registered == set(EXAMPLES)


@pytest.mark.parametrize(("family", "name"), EXAMPLES)
def test_method_keeps_the_contract(family, name):
    settings, make_shards = EXAMPLES[family, name]
    method = registry.build(family, {"method": name, **settings})
    shards = make_shards(np.random.default_rng(0))
    state = check_sharded_method(method, shards)
    arrived_method, arrived_state = pickle.loads(pickle.dumps((method, state)))
    assert arrived_method == method
    assert difference(arrived_state, state) is None


@dataclass(frozen=True)
class Total:
    """A sound method, from which each breach below departs."""

    weight: float = 1.0

    def init(self, seed):
        return None

    def partial(self, shard, state):
        return self.weight * shard.sum(axis=0)

    def merge(self, a, b):
        return a + b

    def update(self, state, stats):
        return stats

    def done(self, state):
        return state is not None


class ChangesItsShard(Total):
    def partial(self, shard, state):
        shard += 1.0
        return shard.sum(axis=0)


class ChangesWhatItMerges(Total):
    def merge(self, a, b):
        a += b
        return a


class MergesByOrder(Total):
    def merge(self, a, b):
        return a - b


class DrawsAtRandom(Total):
    def partial(self, shard, state):
        return np.random.default_rng().normal(size=3)


class NeverEnds(Total):
    def done(self, state):
        return False


class KeepsAnOpenResult(Total):
    def update(self, state, stats):
        return lambda: stats


@dataclass
class CanBeChanged:
    weight: float = 1.0
    init, partial, merge = Total.init, Total.partial, Total.merge
    update, done = Total.update, Total.done


@dataclass(frozen=True)
class ComputesInItsConstructor(Total):
    def __post_init__(self):
        object.__setattr__(self, "twice", 2 * self.weight)


@pytest.mark.parametrize(
    ("method", "rule"),
    [
        (ChangesItsShard(), "partial must not change its arguments"),
        (ChangesWhatItMerges(), "merge must not change its arguments"),
        (MergesByOrder(), "merge must be associative"),
        (DrawsAtRandom(), "partial must give the same bits again"),
        (KeepsAnOpenResult(), "the result of update must be picklable"),
        (NeverEnds(), "not done after 5 rounds"),
        (CanBeChanged(), "must be frozen"),
        (ComputesInItsConstructor(), "must store its fields only; got twice"),
    ],
)
def test_the_check_names_the_broken_rule(method, rule):
    shards = [np.arange(6.0).reshape(2, 3) + i for i in range(4)]
    with pytest.raises(AssertionError, match=rule):
        check_sharded_method(method, shards, max_iter=5)


def test_a_sound_method_passes_and_its_state_comes_back():
    state = check_sharded_method(Total(), [np.ones((2, 3))] * 3)
    assert state.tolist() == [6.0, 6.0, 6.0]


def test_difference_sees_bits_unless_told_otherwise():
    assert difference(np.array([0.1 + 0.2]), np.array([0.3])) is not None
    assert difference(np.array([0.1 + 0.2]), np.array([0.3]), rtol=1e-12) is None
    assert difference({"a": (1, 2.0)}, {"a": (1, 2.5)}) == "value.a.1: arrays differ"
    assert difference(float("nan"), float("nan")) is None
