"""Stage profile: one row per user with RFM, segment, cluster, scores and model features.

Users are described as of the start of the logged campaign, so that nothing after exposure leaks
into the models that learn from it; without a campaign log as of the end of the events.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from promo_ray.artifacts import Artifact, FileEntry, PartRef, PartWriter
from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.events import SCHEMA as EVENTS_SCHEMA
from promo_ray.artifacts.user_profiles import SCHEMA, USER_PROFILES
from promo_ray.artifacts.users import USERS
from promo_ray.config import config_class, resolve
from promo_ray.execution import Resident, iterate
from promo_ray.pipeline.stage import Context, StageResult, current, finished, optional
from promo_ray.pipeline.views import Viewed
from promo_ray.profiles.features import Features, FeatureSpec, feature_matrix
from promo_ray.profiles.kmeans import KMeans, KMeansState, Points, predict
from promo_ray.profiles.lifecycle import Lifecycle, segments
from promo_ray.profiles.moments import Moments, MomentsState, standardize
from promo_ray.profiles.pca import Pca, PcaState
from promo_ray.profiles.price_sensitivity import PriceModel, PriceSensitivity, price_sensitivity
from promo_ray.profiles.rfm import Rfm, RfmState, quintiles
from promo_ray.profiles.user_table import user_table
from promo_ray.seeding import keys_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@config_class
class ProfileConfig:
    """How users are described.

    Attributes:
        n_clusters: k-means clusters, >= 1.
        cluster_features: behavior features that k-means sees; all features if none is there.
        n_components: principal components, >= 1; fewer if there are fewer features.
        lifecycle: thresholds of the lifecycle segments.
    """

    n_clusters: Annotated[int, Field(ge=1)] = 3
    cluster_features: tuple[str, ...] = (
        "recency_days",
        "frequency",
        "monetary",
        "deal_share",
        "price_sensitivity",
    )
    n_components: Annotated[int, Field(ge=1)] = 2
    lifecycle: Lifecycle = Lifecycle()


@dataclass(frozen=True)
class _Source:
    """Reads one shard as a table of `user_table`; runs in the worker."""

    users: PartRef
    events: PartRef | None
    catalog: PartRef | None
    as_of: datetime

    def __call__(self) -> pa.Table:
        events = EVENTS_SCHEMA.empty_table() if self.events is None else self.events()
        catalog = None if self.catalog is None else self.catalog()
        return user_table(events, self.users(), catalog, self.as_of)


class _Scores(NamedTuple):
    """Standardization of all features and their principal components."""

    moments: MomentsState
    pca: PcaState


class _Models(NamedTuple):
    """Everything that was learned over all users and that describes one of them."""

    price: PriceModel
    rfm: RfmState
    spec: FeatureSpec
    columns: tuple[int, ...]  # features that k-means sees
    moments: MomentsState
    clusters: KMeansState
    scores: _Scores | None
    lifecycle: Lifecycle


def run(config: ProfileConfig, context: Context) -> StageResult:
    """Write `user_profiles`."""
    inputs = context.inputs(USERS, EVENTS, CATALOG, CAMPAIGN_LOG)
    if context.is_current(USER_PROFILES, config, inputs):
        return current("profile", context, [USER_PROFILES])
    started = time.perf_counter()
    users = context.store.read(USERS)
    events, catalog = optional(context, EVENTS), optional(context, CATALOG)
    as_of = _as_of(context)
    event_parts = events.parts("events") if events else [None] * len(users.parts("users"))
    catalog_part = catalog.ref("catalog") if catalog else None
    sources = [
        _Source(u, e, catalog_part, as_of)
        for u, e in zip(users.parts("users"), event_parts, strict=True)
    ]
    resident = context.executor.load(sources)
    models = _learn(resident, config, context)
    settings = resolve(config)
    with context.store.write(
        USER_PROFILES, config=settings, seed=context.seed, inputs=inputs
    ) as writer:
        parts = resident.map(
            _describe,
            models,
            writer.part_writer(),
            each=range(resident.n_shards),
            progress=context.progress,
            stage="profile",
        )
        resident.release()
        writer.add(part.entry for part in parts)
        writer.json("features", {"names": models.spec.names, "as_of": as_of.isoformat()})
        writer.json("segments", _segments(parts, models, config))
        writer.tensors("models", _tensors(models))
        writer.metrics = {"n_users": sum(p.entry.rows or 0 for p in parts)}
    return finished("profile", context, [USER_PROFILES], started)


def _as_of(context: Context) -> datetime:
    log = optional(context, CAMPAIGN_LOG)
    if log is not None:
        return _extreme(log, "campaign_log", _first_exposure, _earlier, context)
    events = optional(context, EVENTS)
    if events is None:
        return _EPOCH
    last = _extreme(events, "events", _last_event, _later, context)
    return last + timedelta(microseconds=1)


def _extreme(
    artifact: Artifact,
    name: str,
    of_part: Callable[[pa.Table], datetime | None],
    merge: Callable[[datetime | None, datetime | None], datetime | None],
    context: Context,
) -> datetime:
    resident = context.executor.load(artifact.parts(name))
    found = resident.reduce(of_part, merge)
    resident.release()
    return found or _EPOCH


def _first_exposure(part: pa.Table) -> datetime | None:
    found: datetime | None = pc.min(part["exposed_at"]).as_py()
    return found


def _last_event(part: pa.Table) -> datetime | None:
    found: datetime | None = pc.max(part["at"]).as_py()
    return found


def _earlier(a: datetime | None, b: datetime | None) -> datetime | None:
    return min((t for t in (a, b) if t is not None), default=None)


def _later(a: datetime | None, b: datetime | None) -> datetime | None:
    return max((t for t in (a, b) if t is not None), default=None)


def _with_price(table: pa.Table, model: PriceModel) -> pa.Table:
    return table.append_column("price_sensitivity", price_sensitivity(table, model))


def _features(table: pa.Table, price: PriceModel, spec: FeatureSpec) -> NDArray[np.float64]:
    return feature_matrix(_with_price(table, price), spec)[1]


def _cluster_rows(
    table: pa.Table, price: PriceModel, spec: FeatureSpec, columns: tuple[int, ...]
) -> NDArray[np.float64]:
    return np.ascontiguousarray(_features(table, price, spec)[:, list(columns)])


def _points(
    table: pa.Table,
    price: PriceModel,
    spec: FeatureSpec,
    columns: tuple[int, ...],
    moments: MomentsState,
) -> Points:
    x = standardize(_cluster_rows(table, price, spec, columns), moments)
    return Points(x, keys_of(table["user_id"].to_pylist()))


def _standard(
    table: pa.Table, price: PriceModel, spec: FeatureSpec, moments: MomentsState
) -> NDArray[np.float64]:
    return standardize(_features(table, price, spec), moments)


def _learn(resident: Resident[pa.Table], config: ProfileConfig, context: Context) -> _Models:
    seed, progress = context.seed, context.progress

    def learned(method: Any, stage: str) -> Any:
        result = iterate(method, resident, seed=seed, progress=progress, stage=stage)
        return result.state

    price = learned(PriceSensitivity(), "price sensitivity")
    rfm = learned(Rfm(), "rfm")
    spec = learned(Viewed(Features(), _with_price, (price,)), "features")
    wanted = {f"x_{name}" for name in config.cluster_features}
    found = tuple(i for i, name in enumerate(spec.names) if name in wanted)
    columns = found or tuple(range(len(spec.names)))
    moments = learned(Viewed(Moments(), _cluster_rows, (price, spec, columns)), "moments")
    view = (price, spec, columns, moments)
    clusters = learned(Viewed(KMeans(n_clusters=config.n_clusters), _points, view), "k-means")
    scores = None
    if spec.names:
        whole = learned(Viewed(Moments(), _features, (price, spec)), "moments")
        n_components = min(config.n_components, len(spec.names))
        method = Viewed(Pca(n_components=n_components), _standard, (price, spec, whole))
        scores = _Scores(whole, learned(method, "pca"))
    return _Models(price, rfm, spec, columns, moments, clusters, scores, config.lifecycle)


class _Part(NamedTuple):
    """What one shard tells the driver: its file, and sums for the report by segment."""

    entry: FileEntry
    by_segment: dict[str, list[float]]
    by_cluster: NDArray[np.int64]
    rfm: NDArray[np.int64]  # (5, 5) users by recency and frequency quintile


_MEANS = ("recency_days", "frequency", "monetary", "basket_median", "deal_share")


def _describe(table: pa.Table, models: _Models, write: PartWriter, index: int) -> _Part:
    priced = _with_price(table, models.price)
    names, x = feature_matrix(priced, models.spec)
    rows = standardize(np.ascontiguousarray(x[:, list(models.columns)]), models.moments)
    cluster = predict(rows, models.clusters.centers)
    segment = pa.array(segments(priced, models.lifecycle), pa.string())
    columns: dict[str, Any] = {"segment": segment, "cluster": pa.array(cluster, pa.int32())}
    scored = quintiles(priced, models.rfm)
    columns |= {name: scored[name] for name in scored.column_names}
    columns |= {name: priced[name] for name in SCHEMA.names if name not in columns}
    columns |= {name: x[:, j] for j, name in enumerate(names)}
    if models.scores is not None:
        moments, pca = models.scores
        method = Pca(n_components=len(pca.components))
        scores = method.transform(standardize(x, moments), pca)
        columns |= {f"pc_{j + 1}": scores[:, j] for j in range(scores.shape[1])}
    profile = pa.table({name: columns[name] for name in [*SCHEMA.names, *_extra(columns)]})
    entry = write("user_profiles", index, profile)
    frame = pl.DataFrame(pl.from_arrow(profile))
    counts = np.bincount(cluster, minlength=len(models.clusters.centers))
    return _Part(entry, _segment_sums(frame), counts, _rfm_counts(frame))


def _extra(columns: dict[str, Any]) -> list[str]:
    return [name for name in columns if name not in SCHEMA.names]


def _segment_sums(frame: pl.DataFrame) -> dict[str, list[float]]:
    """Per segment: users, then sum and count of each of `_MEANS`."""
    parts = [part for name in _MEANS for part in (pl.col(name).sum(), pl.col(name).count())]
    named = [part.alias(str(i)) for i, part in enumerate(parts)]
    sums = frame.group_by("segment").agg(pl.len().alias("n"), *named).sort("segment")
    return {row[0]: [float(v or 0) for v in row[1:]] for row in sums.iter_rows()}


def _rfm_counts(frame: pl.DataFrame) -> NDArray[np.int64]:
    counts = np.zeros((5, 5), dtype=np.int64)
    known = frame.drop_nulls(["r_quintile", "f_quintile"])
    r, f = known["r_quintile"].to_numpy(), known["f_quintile"].to_numpy()
    np.add.at(counts, (r.astype(np.int64) - 1, f.astype(np.int64) - 1), 1)
    return counts


def _segments(parts: Sequence[_Part], models: _Models, config: ProfileConfig) -> dict[str, Any]:
    """Document for the report: users and means by segment, cluster sizes, RFM counts."""
    totals: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        for name, sums in part.by_segment.items():
            totals[name] = totals.get(name, np.zeros(len(sums))) + np.asarray(sums)
    rows = []
    for name in sorted(totals):
        n, total, counts = totals[name][0], totals[name][1::2], totals[name][2::2]
        means = {
            f"mean_{column}": float(s / c) if c else None
            for column, s, c in zip(_MEANS, total, counts, strict=True)
        }
        rows.append({"segment": name, "n_users": int(n), **means})
    scores = models.scores
    ratio = np.zeros(0) if scores is None else scores.pca.explained_variance_ratio
    return {
        "segments": rows,
        "clusters": {
            "n_users": np.sum([p.by_cluster for p in parts], axis=0).tolist(),
            "features": [models.spec.names[i] for i in models.columns],
            "centers": models.clusters.centers.tolist(),  # in standard deviations
            "is_converged": models.clusters.is_converged,
        },
        "explained_variance_rate": [float(v) for v in ratio],
        "rfm": np.sum(
            [p.rfm for p in parts], axis=0
        ).tolist(),  # [recency quintile][frequency quintile]
    }


def _tensors(models: _Models) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        "rfm.edges": models.rfm.low,
        "clusters.centers": models.clusters.centers,
        "clusters.mean": models.moments.mean,
    }
    if models.scores is not None:
        arrays |= {"pca.mean": models.scores.moments.mean, "pca.axes": models.scores.pca.components}
    return arrays
