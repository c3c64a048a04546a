"""Items that the same users buy: cosine of buyers, shrunken by how many they share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from promo_ray.artifacts.recommender import NEIGHBOURS
from promo_ray.errors import ConfigError
from promo_ray.recommend.purchases import check_instant, purchases
from promo_ray.registry import register


class Neighbors(NamedTuple):
    """Nearest items of every item, by falling similarity, ties by id.

    Attributes:
        item_ids: `(n_items,)` str, ascending.
        n_buyers: `(n_items,)` int64.
        item: `(n,)` int64 index of the item, ascending.
        neighbor: `(n,)` int64 index of its neighbor.
        similarity: `(n,)` float64 in (0, 1].
        n_joint: `(n,)` int64 users who bought both.
    """

    item_ids: NDArray[np.str_]
    n_buyers: NDArray[np.int64]
    item: NDArray[np.int64]
    neighbor: NDArray[np.int64]
    similarity: NDArray[np.float64]
    n_joint: NDArray[np.int64]

    def table(self) -> pa.Table:
        """Table `neighbors` of kind `recommender`."""
        ids = pa.array(self.item_ids.tolist(), pa.string())
        columns = [ids.take(self.item), ids.take(self.neighbor), self.similarity, self.n_joint]
        return pa.table(columns, schema=NEIGHBOURS)


class JointCounts(NamedTuple):
    """Buyers of items and of pairs of items.

    Attributes:
        item_ids: `(n_items,)` str, ascending.
        n_buyers: `(n_items,)` int64.
        row: `(n,)` int64, the lower index of each pair with a joint buyer.
        col: `(n,)` int64, the higher index.
        n_joint: `(n,)` int64.
    """

    item_ids: NDArray[np.str_]
    n_buyers: NDArray[np.int64]
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    n_joint: NDArray[np.int64]


@register("item_neighbors")
@dataclass(frozen=True, kw_only=True)
class ItemNeighbors:
    """Item-item similarity from co-purchases, counted over shards of events.

    With n_i buyers of item i and n_ij users who bought both,

        similarity_ij = n_ij / sqrt(n_i n_j) * n_ij / (n_ij + shrinkage).

    A shard holds whole users. A user counts with the `max_items_per_user` items bought last, so
    that a reseller with thousands of items does not cost their square.

    Source: Sarwar et al. 2001 (item-based cosine); shrinkage: Bell and Koren 2007.
    """

    as_of: datetime  # end of the history, exclusive, with a time zone
    top_k: int = 50  # neighbors per item
    min_joint: int = 2  # joint buyers below which a pair is noise
    shrinkage: float = 5.0  # joint buyers at which the cosine counts half
    max_items_per_user: int = 200

    def __post_init__(self) -> None:
        check_instant(self.as_of)
        if self.top_k < 1 or self.min_joint < 1 or self.max_items_per_user < 2:
            raise ConfigError(
                "top_k >= 1, min_joint >= 1 and max_items_per_user >= 2 must hold; "
                f"got {self.top_k!r}, {self.min_joint!r}, {self.max_items_per_user!r}"
            )
        if not self.shrinkage >= 0:
            raise ConfigError(f"shrinkage must be >= 0; got {self.shrinkage!r}")

    def init(self, seed: int) -> Neighbors | None:
        """Nothing before the pass; the seed is not used."""
        return None

    def partial(self, shard: pa.Table, state: Neighbors | None) -> JointCounts:
        """Counts of one shard."""
        pairs = (
            purchases(shard, self.as_of)
            .group_by("user_id", "item_id")
            .agg(pl.col("at").max())
            .sort(["user_id", "at", "item_id"], descending=[False, True, False])
            .group_by("user_id", maintain_order=True)
            .head(self.max_items_per_user)
        )
        items = pairs["item_id"].unique().sort()
        users = pairs["user_id"].unique().sort()
        place = (
            users.search_sorted(pairs["user_id"]).to_numpy(),
            items.search_sorted(pairs["item_id"]).to_numpy(),
        )
        ones = np.ones(pairs.height, dtype=np.int64)
        bought = sparse.csr_matrix((ones, place), shape=(len(users), len(items)))
        row, col, n_joint = _cells(sparse.triu(bought.T @ bought, k=1))
        n_buyers = np.asarray(bought.sum(axis=0), dtype=np.int64).ravel()
        return JointCounts(np.array(items.to_list(), dtype=np.str_), n_buyers, row, col, n_joint)

    def merge(self, a: JointCounts, b: JointCounts) -> JointCounts:
        """Counts of both."""
        item_ids = np.union1d(a.item_ids, b.item_ids)
        n_buyers = np.zeros(len(item_ids), dtype=np.int64)
        total = sparse.csr_matrix((len(item_ids), len(item_ids)), dtype=np.int64)
        for part in (a, b):
            at = np.searchsorted(item_ids, part.item_ids)
            n_buyers[at] += part.n_buyers
            place = (at[part.row], at[part.col])
            total = total + sparse.csr_matrix((part.n_joint, place), shape=total.shape)
        return JointCounts(item_ids, n_buyers, *_cells(total))

    def update(self, state: Neighbors | None, stats: JointCounts) -> Neighbors:
        """The nearest items of every item."""
        kept = stats.n_joint >= self.min_joint
        row, col, joint = stats.row[kept], stats.col[kept], stats.n_joint[kept]
        size = np.sqrt(stats.n_buyers[row].astype(np.float64) * stats.n_buyers[col])
        similarity = joint / size * (joint / (joint + self.shrinkage))
        item, neighbor = np.concatenate([row, col]), np.concatenate([col, row])
        similarity, joint = np.tile(similarity, 2), np.tile(joint, 2)
        order = np.lexsort((neighbor, -similarity, item))
        item = item[order]
        start = np.searchsorted(item, item, side="left")
        first = np.arange(len(item)) - start < self.top_k
        chosen = order[first]
        return Neighbors(
            stats.item_ids,
            stats.n_buyers,
            item[first],
            neighbor[chosen],
            similarity[chosen],
            joint[chosen],
        )

    def done(self, state: Neighbors | None) -> bool:
        """Whether the pass is over."""
        return state is not None


def _cells(
    matrix: sparse.spmatrix,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row, column and value of the cells, in row order."""
    rows = matrix.tocsr()
    rows.sort_indices()
    cells = rows.tocoo()
    return cells.row.astype(np.int64), cells.col.astype(np.int64), cells.data.astype(np.int64)
