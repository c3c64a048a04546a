"""Stage ingest: real data or a simulated shop become users, events, catalog and campaign log."""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import field
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.fs as pafs

from promo_ray.artifacts import FileEntry, Kind, PartWriter
from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.files import open_filesystem
from promo_ray.artifacts.users import USERS
from promo_ray.config import config_class, resolve
from promo_ray.data.adapters import find_adapter
from promo_ray.data.blocks import N_BLOCKS, block_of, shard_count, shard_of
from promo_ray.data.clean import CleanPolicy, clean, fill_medians
from promo_ray.data.dataset import Dataset
from promo_ray.data.pseudonym import key_from_environment, pseudonymize_table
from promo_ray.data.quality import QualityReport, check_quality, merge
from promo_ray.data.shards import shard_table
from promo_ray.data.simulate import Shop
from promo_ray.errors import ConfigError, DataError, PromoRayError
from promo_ray.numerics.merge_tree import tree_reduce
from promo_ray.offers import from_terms
from promo_ray.pipeline.stage import Context, StageResult, current, finished

KINDS = (USERS, EVENTS, CATALOG, CAMPAIGN_LOG)


@config_class
class IngestConfig:
    """Where the data come from and how they are cleaned.

    Attributes:
        shop: simulate this shop; not together with `data`.
        data: directory or URI of real data.
        adapter: name of the adapter for `data`; found by the files if not given.
        columns: per canonical table, canonical column -> column of the own files.
        adapter_settings: fields of the adapter, for example `currency` and `outcome` of own data.
        clean: what to do about faulty values of events.
    """

    shop: Shop | None = None
    data: str | None = None
    adapter: str | None = None
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    adapter_settings: dict[str, Any] = field(default_factory=dict)
    clean: CleanPolicy = CleanPolicy()


def run(config: IngestConfig, context: Context) -> StageResult:
    """Write the canonical artefacts.

    Raises:
        ConfigError: neither or both of `shop` and `data`.
        DataError: data that break a rule.
    """
    if (config.shop is None) == (config.data is None):
        raise ConfigError("ingest must have either a shop to simulate or a data directory")
    inputs = {}
    if config.data is not None:
        key = key_from_environment()
        inputs = {"source": _source_digest(config.data), "pseudonym_key": _key_id(key)}
    if context.is_current(USERS, config, inputs):
        return current("ingest", context, KINDS)
    started = time.perf_counter()
    if config.shop is not None:
        _simulate(config, config.shop, context)
    else:
        _read(config, context, inputs)
    return finished("ingest", context, KINDS, started)


def _key_id(key: bytes | None) -> str:
    """Tells one key from another without giving it away."""
    return "" if key is None else hashlib.blake2b(b"promo_ray", key=key[:64]).hexdigest()[:16]


def _source_digest(uri: str) -> str:
    """Digest of names, sizes and times of the files: enough to see that a source changed."""
    fs, root = open_filesystem(uri)
    selector = pafs.FileSelector(root, recursive=True, allow_not_found=True)
    infos = [i for i in fs.get_file_info(selector) if i.type == pafs.FileType.File]
    lines = sorted(f"{i.path[len(root) :]} {i.size} {i.mtime_ns}" for i in infos)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class _ShopShard(NamedTuple):
    shop: Shop
    number: int
    user_ids: tuple[str, ...]


class _ShopParts(NamedTuple):
    entries: tuple[FileEntry, ...]
    quality: QualityReport


def _simulate_shard(
    shard: _ShopShard, users: PartWriter, events: PartWriter, log: PartWriter
) -> _ShopParts:
    shop, index, ids = shard
    table = shop.events(ids)
    entries = (
        users("users", index, shop.users(ids)),
        events("events", index, table),
        log("campaign_log", index, shop.campaign_log(ids)),
    )
    return _ShopParts(entries, check_quality(table, shop.catalog(), bounds={}))


def _simulate(config: IngestConfig, shop: Shop, context: Context) -> None:
    ids = np.array(sorted(shop.user_ids()), dtype=object)
    n_shards = shard_count(len(ids))
    shards = shard_of(block_of(ids.tolist()), n_shards)
    groups = [_ShopShard(shop, s, tuple(ids[shards == s])) for s in range(n_shards)]
    settings = resolve(config)
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                context.store.write(kind, config=settings, seed=context.seed, inputs={})
            )
            for kind in (USERS, EVENTS, CATALOG, CAMPAIGN_LOG)
        ]
        users, events, catalog, log = writers
        resident = context.executor.load(groups)
        parts = resident.map(
            _simulate_shard,
            users.part_writer(),
            events.part_writer(),
            log.part_writer(),
            progress=context.progress,
            stage="simulate",
        )
        resident.release()
        for writer, position in ((users, 0), (events, 1), (log, 2)):
            writer.add(p.entries[position] for p in parts)
        users.json("shards", _shards(n_shards, len(ids)))
        quality = tree_reduce([p.quality for p in parts], merge)
        events.json("quality", quality.to_dict() | {"cleaned": {}})
        events.metrics = {"n_events": quality.n_rows, "n_users": len(ids)}
        catalog.table("catalog", shop.catalog())
        log.table("offers", shop.past_offers())
        log.json("design", shop.design())


def _shards(n_shards: int, n_users: int) -> dict[str, int]:
    return {"n_blocks": N_BLOCKS, "n_shards": n_shards, "n_users": n_users}


def _read(config: IngestConfig, context: Context, inputs: dict[str, str]) -> None:
    settings = dict(config.adapter_settings)
    if config.columns:
        settings["columns"] = config.columns
    adapter = find_adapter(str(config.data), config.adapter, settings)
    dataset = adapter.read(str(config.data))
    _check_offers(dataset)
    key = key_from_environment()
    if key is not None:
        dataset = _pseudonymized(dataset, key)
    context.progress("ingest", 1, 4)
    events: pa.Table | None = None
    counts: dict[str, int] = {}
    quality: QualityReport | None = None
    if dataset.events is not None:
        quality = check_quality(dataset.events, dataset.catalog)
        medians = fill_medians(dataset.events, dataset.catalog)
        where = f"{config.data} events"
        events, counts = clean(dataset.events, config.clean, medians=medians, where=where)
        dataset = dataset._replace(events=events)
    users = _all_users(dataset)
    n_shards = shard_count(users.num_rows)
    settings = resolve(config)
    notes = {
        "name": dataset.name,
        "notes": list(dataset.notes),
        "is_pseudonymized": key is not None,
    }

    for kind in KINDS:  # another data set may have had kinds that this one lacks
        context.store.remove(kind)

    def write(kind: Kind) -> contextlib.AbstractContextManager:  # type: ignore[type-arg]
        return context.store.write(kind, config=settings, seed=context.seed, inputs=inputs)

    if events is not None and quality is not None:
        with write(EVENTS) as writer:
            for index, part in enumerate(shard_table(events, n_shards)):
                writer.part("events", index, part)
            writer.json("quality", quality.to_dict() | {"cleaned": counts})
            writer.metrics = {"n_events": events.num_rows}
    context.progress("ingest", 2, 4)
    if dataset.catalog is not None:
        with write(CATALOG) as writer:
            writer.table("catalog", dataset.catalog)
    if dataset.campaign_log is not None:
        with write(CAMPAIGN_LOG) as writer:
            for index, part in enumerate(shard_table(dataset.campaign_log, n_shards)):
                writer.part("campaign_log", index, part)
            writer.table("offers", dataset.offers)
            writer.json("design", dataset.design)
    context.progress("ingest", 3, 4)
    with write(USERS) as writer:
        for index, part in enumerate(shard_table(users, n_shards)):
            writer.part("users", index, part)
        writer.json("shards", _shards(n_shards, users.num_rows) | notes)
        writer.metrics = {"n_users": users.num_rows}
    context.progress("ingest", 4, 4)


def _check_offers(dataset: Dataset) -> None:
    """Refuse terms that are no offer before any stage builds on them."""
    if dataset.offers is None or dataset.design is None:
        return
    for row in dataset.offers.to_pylist():
        try:
            from_terms(row, dataset.design["currency"])
        except PromoRayError as error:
            raise DataError(str(error), where=f"offers, offer_id {row['offer_id']!r}") from error


def _pseudonymized(dataset: Dataset, key: bytes) -> Dataset:
    tables = {
        name: pseudonymize_table(table, key)
        for name in ("events", "users", "campaign_log")
        if (table := getattr(dataset, name)) is not None
    }
    return dataset._replace(**tables)


def _all_users(dataset: Dataset) -> pa.Table:
    """Users of every table, once each; attributes are null for users without a row."""
    tables = [t for t in (dataset.users, dataset.events, dataset.campaign_log) if t is not None]
    ids = pl.concat([pl.Series(pl.from_arrow(t["user_id"])).unique() for t in tables]).unique()
    frame = pl.DataFrame({"user_id": ids.sort()})
    if dataset.users is None:
        return frame.with_columns(is_consenting=pl.lit(None, dtype=pl.Boolean)).to_arrow()
    known = pl.DataFrame(pl.from_arrow(dataset.users))
    return frame.join(known, on="user_id", how="left", maintain_order="left").to_arrow()
