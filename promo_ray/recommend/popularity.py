"""Popular items: distinct buyers in a window before a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.artifacts.recommender import POPULAR
from promo_ray.errors import ConfigError
from promo_ray.recommend.purchases import check_instant, purchases
from promo_ray.registry import register


class Popular(NamedTuple):
    """Items by falling number of buyers, ties by id.

    Attributes:
        window_days: length of the window.
        item_ids: `(n,)` str.
        n_buyers: `(n,)` int64 distinct buyers.
    """

    window_days: int
    item_ids: NDArray[np.str_]
    n_buyers: NDArray[np.int64]

    def table(self) -> pa.Table:
        """Table `popular` of kind `recommender`."""
        days = np.full(len(self.item_ids), self.window_days, dtype=np.int32)
        columns = [pa.array(self.item_ids.tolist(), pa.string()), days, self.n_buyers]
        return pa.table(columns, schema=POPULAR)


class BuyerCounts(NamedTuple):
    """Item ids `(n,)` str, ascending, and their distinct buyers `(n,)` int64."""

    item_ids: NDArray[np.str_]
    n_buyers: NDArray[np.int64]


@register("popularity")
@dataclass(frozen=True, kw_only=True)
class Popularity:
    """Counts distinct buyers of every item over shards of events; a shard holds whole users."""

    as_of: datetime  # end of the window, exclusive, with a time zone
    window_days: int = 28

    def __post_init__(self) -> None:
        check_instant(self.as_of)
        if self.window_days < 1:
            raise ConfigError(f"window_days must be >= 1; got {self.window_days!r}")

    def init(self, seed: int) -> Popular | None:
        """Nothing before the pass; the seed is not used."""
        return None

    def partial(self, shard: pa.Table, state: Popular | None) -> BuyerCounts:
        """Buyers of one shard."""
        lines = purchases(shard, self.as_of, self.window_days)
        counts = lines.group_by("item_id").agg(pl.col("user_id").n_unique()).sort("item_id")
        ids = np.array(counts["item_id"].to_list(), dtype=np.str_)
        return BuyerCounts(ids, counts["user_id"].to_numpy().astype(np.int64))

    def merge(self, a: BuyerCounts, b: BuyerCounts) -> BuyerCounts:
        """Buyers of both."""
        item_ids = np.union1d(a.item_ids, b.item_ids)
        n_buyers = np.zeros(len(item_ids), dtype=np.int64)
        for part in (a, b):
            n_buyers[np.searchsorted(item_ids, part.item_ids)] += part.n_buyers
        return BuyerCounts(item_ids, n_buyers)

    def update(self, state: Popular | None, stats: BuyerCounts) -> Popular:
        """Items in order."""
        order = np.lexsort((np.arange(len(stats.n_buyers)), -stats.n_buyers))
        return Popular(self.window_days, stats.item_ids[order], stats.n_buyers[order])

    def done(self, state: Popular | None) -> bool:
        """Whether the pass is over."""
        return state is not None
