"""Splitting a table into shards of users."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promo_ray.data.blocks import N_BLOCKS, block_of, shard_of
from promo_ray.errors import ConfigError, DataError

_INTEGERS = (pa.types.is_integer, pa.types.is_timestamp)


def shard_table(
    table: pa.Table, n_shards: int, sort_keys: Sequence[str] = ("at", "exposed_at")
) -> list[pa.Table]:
    """Rows of each shard of users, sorted by user, then by the sort keys that the table has.

    The sort is stable: rows of a user that are equal in all keys keep their order. Users are in
    the order of the bytes of their UTF-8 ids.

    Args:
        table: any table with a `user_id` string column without nulls.
        n_shards: a power of two in [1, 1024].
        sort_keys: columns of any sortable type without nulls; absent ones are passed over.

    Returns:
        `n_shards` tables, some perhaps empty, each with memory of its own.

    Raises:
        ConfigError: n_shards is not such a power.
        DataError: a user_id or sort key is null.
    """
    if not 1 <= n_shards <= N_BLOCKS or n_shards & (n_shards - 1):
        raise ConfigError(f"n_shards must be a power of two in [1, {N_BLOCKS}]; got {n_shards}")
    keys = [name for name in sort_keys if name in table.column_names]
    for name in ("user_id", *keys):
        if table.column(name).null_count:
            raise DataError(f"column {name!r} must have no null to be sharded")
    table = table.combine_chunks()
    encoded = table.column("user_id").combine_chunks().dictionary_encode()
    users = encoded.dictionary
    shard = shard_of(block_of(users.to_pylist()), n_shards)
    place = np.empty(len(users), np.int64)
    by_id = pc.sort_indices(users).to_numpy()
    place[by_id[np.argsort(shard[by_id], kind="stable")]] = np.arange(len(users))
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    order = np.lexsort([*(_sortable(table, k) for k in reversed(keys)), place[codes]])
    rows = np.bincount(shard[codes], minlength=n_shards)
    ends = np.cumsum(rows)
    taken = pa.array(order)
    return [
        table.take(taken.slice(int(end - n), int(n))) for end, n in zip(ends, rows, strict=True)
    ]


def _sortable(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Integers in the order of a column."""
    column = table.column(name)
    if any(is_kind(column.type) for is_kind in _INTEGERS):
        return np.asarray(column.cast(pa.int64()).to_numpy())
    return np.asarray(pc.rank(column, tiebreaker="dense").to_numpy()).astype(np.int64)
