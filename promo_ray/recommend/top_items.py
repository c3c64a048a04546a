"""Top items of every user of a shard: neighbors of what the user bought, then what is popular."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from promo_ray.artifacts.recommender import TOP
from promo_ray.errors import ConfigError, DataError
from promo_ray.recommend.item_neighbors import Neighbors
from promo_ray.recommend.popularity import Popular
from promo_ray.recommend.purchases import check_instant, purchases

_SCORE_UNIT = 2.0**-40  # similarities add up as integers, so equal scores are equal


class UserHistories(NamedTuple):
    """What users bought last.

    Attributes:
        user_ids: ids, ascending; users without a purchase included.
        offsets: `(n_users + 1,)` int64; user i has `item_ids[offsets[i] : offsets[i + 1]]`.
        item_ids: `(n,)` str, distinct per user, last bought first (ties by id).
    """

    user_ids: tuple[str, ...]
    offsets: NDArray[np.int64]
    item_ids: NDArray[np.str_]

    def items_of(self, user: int) -> list[str]:
        """Items of the user at this place."""
        ids: list[str] = self.item_ids[self.offsets[user] : self.offsets[user + 1]].tolist()
        return ids


def user_histories(
    events: pa.Table, user_ids: Sequence[str], as_of: datetime, max_items: int = 50
) -> UserHistories:
    """The last `max_items` distinct items that each user bought before `as_of`.

    Args:
        events: rows of kind `events` of one shard; other users are left out.
        user_ids: users of the shard, distinct.
        as_of: instant with a time zone.
        max_items: items per user, >= 1.
    """
    check_instant(as_of)
    if max_items < 1:
        raise ConfigError(f"max_items must be >= 1; got {max_items!r}")
    known = tuple(sorted(user_ids))
    bought = (
        purchases(events, as_of)
        .filter(pl.col("user_id").is_in(list(known)))
        .group_by("user_id", "item_id")
        .agg(pl.col("at").max())
        .sort(["user_id", "at", "item_id"], descending=[False, True, False])
        .group_by("user_id", maintain_order=True)
        .head(max_items)
    )
    place = pl.Series(known, dtype=pl.String).search_sorted(bought["user_id"]).to_numpy()
    counts = np.bincount(place.astype(np.int64), minlength=len(known))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return UserHistories(known, offsets, np.array(bought["item_id"].to_list(), dtype=np.str_))


def top_items(
    histories: UserHistories,
    neighbors: Neighbors,
    popular: Popular,
    n: int,
    *,
    is_rebuy_allowed: bool = True,
) -> pa.Table:
    """The `n` items with the highest scores for every user.

    The score of an item is the sum of its similarities to the items of the history. With
    `is_rebuy_allowed` (consumables) an item also scores 1 for having been bought; without it
    (durables) items of the history are left out. Where fewer than `n` items score, the most
    popular others follow. Ties go to the lower item id. A user's row depends on the user's
    history, `neighbors` and `popular` alone.

    Args:
        histories: users of one shard.
        neighbors: final state of `ItemNeighbors`.
        popular: final state of `Popularity`.
        n: items per user, >= 1; fewer where there are no more.
        is_rebuy_allowed: whether bought items may come again.

    Returns:
        Table `top` of kind `recommender`, sorted by user.
    """
    if n < 1:
        raise ConfigError(f"n must be >= 1; got {n!r}")
    scores, bought = _scores(histories, neighbors, is_rebuy_allowed)
    fallback = popular.item_ids.tolist()
    rows = []
    for user in range(len(histories.user_ids)):
        cells = slice(scores.indptr[user], scores.indptr[user + 1])
        items, points = scores.indices[cells], scores.data[cells]
        passed: set[str] = set()
        if not is_rebuy_allowed:
            own = bought.indices[bought.indptr[user] : bought.indptr[user + 1]]
            kept = ~np.isin(items, own)
            items, points = items[kept], points[kept]
            passed = set(histories.items_of(user))
        chosen = neighbors.item_ids[items[np.lexsort((items, -points))[:n]]].tolist()
        rows.append(chosen + _first_others(fallback, passed | set(chosen), n - len(chosen)))
    return pa.table([pa.array(histories.user_ids, pa.string()), rows], schema=TOP)


def _first_others(item_ids: list[str], passed: set[str], n: int) -> list[str]:
    found: list[str] = []
    for item in item_ids:
        if len(found) == n:
            break
        if item not in passed:
            found.append(item)
    return found


def _scores(
    histories: UserHistories, neighbors: Neighbors, is_rebuy_allowed: bool
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Scores and bought items, `(n_users, n_items)` int64 in units of 2**-40."""
    n_users, n_items = len(histories.user_ids), len(neighbors.item_ids)
    if n_items == 0:
        empty = sparse.csr_matrix((n_users, 0), dtype=np.int64)
        return empty, empty
    if len(histories.offsets) != n_users + 1:
        raise DataError(f"offsets must have {n_users + 1} entries; got {len(histories.offsets)}")
    users = np.repeat(np.arange(n_users), np.diff(histories.offsets))
    place = np.minimum(np.searchsorted(neighbors.item_ids, histories.item_ids), n_items - 1)
    known = neighbors.item_ids[place] == histories.item_ids
    ones = np.ones(int(known.sum()), dtype=np.int64)
    bought = sparse.csr_matrix((ones, (users[known], place[known])), shape=(n_users, n_items))
    units = np.rint(neighbors.similarity / _SCORE_UNIT).astype(np.int64)
    similarity = sparse.csr_matrix(
        (units, (neighbors.item, neighbors.neighbor)), shape=(n_items, n_items)
    )
    if is_rebuy_allowed:
        unit = np.int64(round(1.0 / _SCORE_UNIT))
        similarity = similarity + sparse.identity(n_items, dtype=np.int64, format="csr") * unit
    return (bought @ similarity).tocsr(), bought
