"""How often the next order holds a recommended item: leave the last order out."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl
import pyarrow as pa

from promo_ray.errors import DataError
from promo_ray.recommend.purchases import purchases


class LastOrderSplit(NamedTuple):
    """One shard without the last order of its users, and that order.

    Attributes:
        history: events before the held-out order of each user; all events of users with one
            order only.
        held_out: `user_id`, `item_ids`: the items of the last order of users with at least two
            orders, sorted by user.
    """

    history: pa.Table
    held_out: pa.Table


class HitRate(NamedTuple):
    """Users judged and users with a hit; add the fields of shards."""

    n_users: int
    n_hits: int

    @property
    def rate(self) -> float:
        """Share of users with a hit, in [0, 1]; 0 without users."""
        return self.n_hits / self.n_users if self.n_users else 0.0


def split_last_order(events: pa.Table) -> LastOrderSplit:
    """Split the events of one shard, which holds whole users; see `LastOrderSplit`.

    Other users' later orders stay in the histories, so the rate compares methods on equal terms
    and does not forecast the rate of a launch; for that, cut all users at one time.
    """
    lines = purchases(events)
    orders = (
        lines.group_by("user_id", "order")
        .agg(pl.col("at").min(), pl.col("item_id").unique().sort().alias("item_ids"))
        .sort("user_id", "at", "order")
    )
    last = (
        orders.filter(pl.len().over("user_id") > 1).group_by("user_id", maintain_order=True).last()
    )
    frame = pl.from_arrow(events)
    if not isinstance(frame, pl.DataFrame):
        raise DataError("input must be a table; got one column", where="events")
    cut = last.select("user_id", cut_at="at")
    joined = frame.join(cut, on="user_id", how="left", maintain_order="left")
    kept = joined["cut_at"].is_null() | (joined["at"] < joined["cut_at"])
    history = events.filter(pa.array(kept.to_list(), pa.bool_()))
    ids = pa.array(last["user_id"].to_list(), pa.string())
    item_ids = pa.array(last["item_ids"].to_list(), pa.list_(pa.string()))
    return LastOrderSplit(history, pa.table([ids, item_ids], names=["user_id", "item_ids"]))


def hit_rate(top: pa.Table, held_out: pa.Table) -> HitRate:
    """Users whose held-out order holds at least one recommended item.

    Args:
        top: `user_id`, `item_ids` recommended.
        held_out: `user_id`, `item_ids` bought; users that `top` lacks count as misses.
    """
    offered = dict(zip(*(top.column(c).to_pylist() for c in ("user_id", "item_ids")), strict=True))
    n_hits = 0
    for user, items in zip(
        held_out.column("user_id").to_pylist(), held_out.column("item_ids").to_pylist(), strict=True
    ):
        n_hits += not set(items).isdisjoint(offered.get(user, ()))
    return HitRate(held_out.num_rows, n_hits)
