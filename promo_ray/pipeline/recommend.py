"""Stage recommend: popular items, item neighbors and the top items of every user."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from promo_ray.artifacts import FileEntry, PartRef, PartWriter
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.recommender import RECOMMENDER
from promo_ray.artifacts.users import USERS
from promo_ray.config import config_class, resolve
from promo_ray.execution import Resident, iterate
from promo_ray.pipeline.stage import Context, StageResult, current, finished, skipped
from promo_ray.pipeline.views import Viewed
from promo_ray.recommend.hit_rate import hit_rate, split_last_order
from promo_ray.recommend.item_neighbors import ItemNeighbors, Neighbors
from promo_ray.recommend.popularity import Popular, Popularity
from promo_ray.recommend.top_items import top_items, user_histories


@config_class
class RecommendConfig:
    """What is recommended.

    Attributes:
        n_items: items per user, >= 1.
        window_days: window of popularity in days, >= 1.
        is_rebuy_allowed: True for consumables: items bought before may be recommended again.
    """

    n_items: Annotated[int, Field(ge=1, le=1000)] = 10
    window_days: Annotated[int, Field(ge=1)] = 28
    is_rebuy_allowed: bool = True


class _Shard(NamedTuple):
    events: pa.Table
    user_ids: tuple[str, ...]


class _Source(NamedTuple):
    events: PartRef
    users: PartRef

    def __call__(self) -> _Shard:
        return _Shard(self.events(), tuple(self.users()["user_id"].to_pylist()))


def run(config: RecommendConfig, context: Context) -> StageResult:
    """Write `recommender`."""
    if why := missing(context):
        return skipped("recommend", why, context, [RECOMMENDER])
    inputs = context.inputs(EVENTS, USERS)
    if context.is_current(RECOMMENDER, config, inputs):
        return current("recommend", context, [RECOMMENDER])
    started = time.perf_counter()
    events, users = context.store.read(EVENTS), context.store.read(USERS)
    pairs = zip(events.parts("events"), users.parts("users"), strict=True)
    resident = context.executor.load([_Source(e, u) for e, u in pairs])
    last = max((t for t in resident.map(_last_event) if t is not None), default=None)
    if last is None:
        return skipped("recommend", "there are no events", context, [RECOMMENDER])
    as_of = last + timedelta(microseconds=1)
    popular, neighbors = _learn(resident, as_of, config, whole=True)
    settings = resolve(config)
    with context.store.write(
        RECOMMENDER, config=settings, seed=context.seed, inputs=inputs
    ) as writer:
        entries = resident.map(
            _top,
            (popular, neighbors),
            (as_of, config.n_items, config.is_rebuy_allowed),
            writer.part_writer(),
            each=range(resident.n_shards),
            progress=context.progress,
            stage="recommend",
        )
        writer.add(entries)
        writer.table("popular", popular.table())
        writer.table("neighbors", neighbors.table())
        quality = _quality(resident, as_of, config)
        writer.json("quality", quality)
        writer.metrics = {"hit_rate": quality["hit_rate"]}
    resident.release()
    return finished("recommend", context, [RECOMMENDER], started)


def missing(context: Context) -> str:
    """Why the stage cannot run; empty if it can."""
    return "" if context.has(EVENTS) else "there are no events"


def _last_event(shard: _Shard) -> datetime | None:
    found: datetime | None = pc.max(shard.events["at"]).as_py()
    return found


def _events(shard: _Shard) -> pa.Table:
    return shard.events


def _history(shard: _Shard) -> pa.Table:
    return split_last_order(shard.events).history


def _learn(
    resident: Resident[_Shard], as_of: datetime, config: RecommendConfig, *, whole: bool
) -> tuple[Popular, Neighbors]:
    view = _events if whole else _history
    popularity = Popularity(as_of=as_of, window_days=config.window_days)
    popular = iterate(Viewed(popularity, view), resident).state
    neighbors = iterate(Viewed(ItemNeighbors(as_of=as_of), view), resident).state
    return popular, neighbors


def _top(
    shard: _Shard,
    models: tuple[Popular, Neighbors],
    settings: tuple[datetime, int, bool],
    write: PartWriter,
    index: int,
) -> FileEntry:
    popular, neighbors = models
    as_of, n_items, is_rebuy_allowed = settings
    histories = user_histories(shard.events, shard.user_ids, as_of)
    top = top_items(histories, neighbors, popular, n_items, is_rebuy_allowed=is_rebuy_allowed)
    return write("top", index, top)


class _Hits(NamedTuple):
    n_users: int
    n_hits: int
    n_popular_hits: int


def _hits(
    shard: _Shard,
    models: tuple[Popular, Neighbors],
    settings: tuple[datetime, int, bool],
) -> _Hits:
    popular, neighbors = models
    as_of, n_items, is_rebuy_allowed = settings
    history, held_out = split_last_order(shard.events)
    ids = held_out["user_id"].to_pylist()
    histories = user_histories(history, ids, as_of)
    top = top_items(histories, neighbors, popular, n_items, is_rebuy_allowed=is_rebuy_allowed)
    best = [popular.item_ids[:n_items].tolist()] * len(ids)
    same = pa.table({"user_id": pa.array(ids, pa.string()), "item_ids": best})
    mine = hit_rate(top, held_out)
    return _Hits(mine.n_users, mine.n_hits, hit_rate(same, held_out).n_hits)


def _add(a: _Hits, b: _Hits) -> _Hits:
    return _Hits(*(x + y for x, y in zip(a, b, strict=True)))


def _quality(
    resident: Resident[_Shard], as_of: datetime, config: RecommendConfig
) -> dict[str, float | int]:
    """Share of users whose held-out last order has a recommended item, beside popularity alone."""
    models = _learn(resident, as_of, config, whole=False)
    settings = (as_of, config.n_items, config.is_rebuy_allowed)
    hits = resident.reduce(_hits, _add, models, settings)
    n = max(1, hits.n_users)
    return {
        "n_users": hits.n_users,
        "n_items": config.n_items,
        "hit_rate": hits.n_hits / n,
        "popularity_hit_rate": hits.n_popular_hits / n,
    }
