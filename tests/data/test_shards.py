import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_ray.data.blocks import block_of, shard_of
from promo_ray.data.shards import shard_table
from promo_ray.errors import ConfigError, DataError

START = datetime(2026, 1, 5, tzinfo=UTC)
rows_of = st.lists(
    st.tuples(st.text("abé日", min_size=1, max_size=3), st.integers(0, 3)), max_size=40
)


def _table(rows: list[tuple[str, int]]) -> pa.Table:
    return pa.table(
        {
            "line": pa.array(range(len(rows)), pa.int64()),
            "user_id": pa.array([u for u, _ in rows], pa.string()),
            "at": pa.array([START + timedelta(days=d) for _, d in rows], pa.timestamp("us", "UTC")),
        }
    )


@settings(max_examples=50, deadline=None)
@given(rows=rows_of, n_shards=st.sampled_from([1, 8, 64]))
def test_shards_are_what_sorting_each_users_rows_gives(
    rows: list[tuple[str, int]], n_shards: int
) -> None:
    shards = shard_table(_table(rows), n_shards)
    assert len(shards) == n_shards
    for index, shard in enumerate(shards):
        own = [
            (user.encode(), day, line)
            for line, (user, day) in enumerate(rows)
            if shard_of(block_of([user]), n_shards)[0] == index
        ]
        assert shard.column("line").to_pylist() == [line for *_, line in sorted(own)]
        assert shard.schema == _table(rows).schema


def test_shards_do_not_depend_on_chunks_or_on_the_order_of_users() -> None:
    rows = [(f"u{i % 7}", i % 3) for i in range(60)]
    table = _table(rows)
    chunked = pa.concat_tables([table.slice(a, 20) for a in (0, 20, 40)])
    by_user = table.take(pa.array(sorted(range(60), key=lambda i: (rows[i][0], i))))
    want = shard_table(table, 8)
    for other in (chunked, by_user):
        assert all(a.equals(b) for a, b in zip(want, shard_table(other, 8), strict=True))


def test_sort_keys_may_be_text_and_absent_ones_are_passed_over() -> None:
    table = pa.table({"user_id": ["a", "a", "a"], "name": ["z", "y", "x"], "n": [1, 2, 3]})
    shards = shard_table(table, 1, sort_keys=("at", "name"))
    assert shards[0].column("n").to_pylist() == [3, 2, 1]
    assert shard_table(table, 1)[0].column("n").to_pylist() == [1, 2, 3]


def test_an_empty_table_gives_empty_shards() -> None:
    shards = shard_table(_table([]), 8)
    assert [s.num_rows for s in shards] == [0] * 8
    assert shards[0].schema == _table([]).schema


@pytest.mark.parametrize("n_shards", [0, 3, 2048])
def test_the_number_of_shards_is_a_power_of_two(n_shards: int) -> None:
    with pytest.raises(ConfigError, match="power of two"):
        shard_table(_table([("a", 0)]), n_shards)


def test_rows_without_a_user_are_refused() -> None:
    with pytest.raises(DataError, match="'user_id' must have no null"):
        shard_table(pa.table({"user_id": ["a", None]}), 8)


def test_a_million_rows_are_sharded_within_seconds() -> None:
    rng = np.random.default_rng(0)
    n = 1_000_000
    users = pa.array([f"u{i}" for i in range(20_000)]).take(pa.array(rng.integers(0, 20_000, n)))
    at = pa.array(rng.integers(0, 10**15, n)).cast(pa.timestamp("us", "UTC"))
    table = pa.table({"user_id": users, "at": at, "x": rng.random(n)})
    start = time.process_time()
    shards = shard_table(table, 16)
    assert time.process_time() - start < 5.0  # about 0.5 s on one core
    assert sum(s.num_rows for s in shards) == n
