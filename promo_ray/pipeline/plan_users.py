"""Audiences of lifecycle plans: profiles with the columns that rules read, and their outcomes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promo_ray.artifacts import PartRef
from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.events import SCHEMA as EVENTS_SCHEMA
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.artifacts.users import USERS
from promo_ray.design.audience import members
from promo_ray.design.plan_catalog import ABOUT_ITEMS, LifecyclePlan
from promo_ray.errors import DataError
from promo_ray.offers import Audience
from promo_ray.pipeline.menu_samples import consenting
from promo_ray.pipeline.scoring import described
from promo_ray.pipeline.stage import Context, optional
from promo_ray.profiles.user_table import user_table


class PlanUsers(NamedTuple):
    """Users of a shard.

    Attributes:
        table: described users.
        inside: `(n,)` bool whom the rules of each plan hold for; nobody who withholds consent.
        held_out: `(n,)` bool users of them who get nothing if they are of the plan, by plan.
        log: rows of the campaign log.
    """

    table: pa.Table
    inside: Mapping[str, NDArray[np.bool_]]
    held_out: Mapping[str, NDArray[np.bool_]]
    log: pa.Table

    def audience(self, name: str, earlier: Sequence[str]) -> NDArray[np.bool_]:
        """`(n,)` bool audience of a plan: those of its rules whom no earlier plan has."""
        taken = (self.inside[other] for other in earlier)
        return functools.reduce(lambda own, other: own & ~other, taken, self.inside[name])

    def treated(self, name: str, earlier: Sequence[str]) -> pa.Table:
        """Users of a plan who are not held out."""
        return self.table.filter(pa.array(self.audience(name, earlier) & ~self.held_out[name]))


class PlanSource(NamedTuple):
    """Reads one shard; runs in the worker."""

    profiles: PartRef
    users: PartRef
    log: PartRef
    events: PartRef | None
    catalog: PartRef | None
    as_of: datetime
    plans: Mapping[str, LifecyclePlan]
    holdouts: Mapping[str, Audience]

    def __call__(self) -> PlanUsers:
        """Read the shard and find whom the rules of every plan hold for."""
        profiles, users = self.profiles(), self.users()
        table = described(profiles, users)
        events = EVENTS_SCHEMA.empty_table() if self.events is None else self.events()
        catalog = None if self.catalog is None else self.catalog()
        rich = table
        if any(set(plan.columns) - set(table.column_names) for plan in self.plans.values()):
            behavior = user_table(events, users, catalog, self.as_of)
            for name in behavior.column_names:
                if name not in table.column_names:
                    rich = rich.append_column(name, behavior[name])
        may_be_asked = consenting(table)
        ids = table["user_id"].to_pylist()
        inside, held_out = {}, {}
        for name, plan in self.plans.items():
            own = rich
            if plan.items and catalog is not None:
                own = _about(rich, plan.items, events, catalog, self.as_of)
            inside[name] = members(plan.audience, own, f"plans.{name}.audience") & may_be_asked
            rule = self.holdouts[name]
            held_out[name] = inside[name].copy()
            for row in np.flatnonzero(inside[name]).tolist():
                held_out[name][row] = rule.holds_out(ids[row], "")
        return PlanUsers(table, inside, held_out, self.log())


def plan_sources(
    context: Context, plans: Mapping[str, LifecyclePlan], holdouts: Mapping[str, Audience]
) -> list[PlanSource]:
    """One source per shard, for `executor.load`.

    Raises:
        DataError: a plan is about items that the catalog does not have.
    """
    store = context.store
    profiles, users, log = (store.read(k) for k in (USER_PROFILES, USERS, CAMPAIGN_LOG))
    events, catalog = optional(context, EVENTS), optional(context, CATALOG)
    known = set(catalog.table("catalog")["item_id"].to_pylist()) if catalog else set()
    for name, plan in plans.items():
        for item in plan.items:
            if item not in known:
                raise DataError(
                    f"must be items of the catalog; got {item!r}", where=f"plans.{name}.items"
                )
    event_parts = events.parts("events") if events else [None] * len(users.parts("users"))
    parts = zip(
        profiles.parts("user_profiles"), users.parts("users"), log.parts("campaign_log"),
        event_parts, strict=True,
    )  # fmt: skip
    goods = catalog.ref("catalog") if catalog else None
    as_of = datetime.fromisoformat(profiles.json("features")["as_of"])
    return [PlanSource(*part, goods, as_of, plans, holdouts) for part in parts]


def _about(
    table: pa.Table, items: tuple[str, ...], events: pa.Table, catalog: pa.Table, as_of: datetime
) -> pa.Table:
    """The table with `ABOUT_ITEMS`: share of spend in the items' categories, units of the items."""
    chosen = pc.is_in(catalog["item_id"], pa.array(items))
    places = catalog.filter(chosen)["category"].unique()
    alike = catalog.filter(pc.is_in(catalog["category"], places))["item_id"]
    lines = pl.DataFrame(pl.from_arrow(events)).filter(
        (pl.col("event_type") == "purchase") & (pl.col("quantity") > 0) & (pl.col("at") < as_of)
    )
    cents = (pl.col("unit_price") * pl.col("quantity") * 100).round().cast(pl.Int64)
    is_alike = pl.col("item_id").is_in(alike.to_pylist())
    units = pl.col("quantity").filter(pl.col("item_id").is_in(list(items))).sum()
    found = lines.group_by("user_id").agg(
        affinity=cents.filter(is_alike).sum() / cents.sum(), has_bought=units.cast(pl.Int64)
    )
    users = pl.DataFrame({"user_id": table["user_id"].to_pylist()})
    own = users.join(found, on="user_id", how="left", maintain_order="left")
    own = own.with_columns(pl.col("has_bought").fill_null(0))
    for name in ABOUT_ITEMS:
        table = table.append_column(name, own[name].to_arrow())
    return table


class Census(NamedTuple):
    """Size of an audience and moments of an outcome among its rows of the log.

    Attributes:
        n: users.
        n_in_earlier: more whom the plan's rules hold for, but whom an earlier plan has.
        n_held_out: of the n users those who get nothing.
        n_log: rows of the log with a known outcome.
        total, squares: sum of the outcome and of its squares.
    """

    n: int
    n_in_earlier: int
    n_held_out: int
    n_log: int
    total: float
    squares: float


def census(shard: PlanUsers, name: str, earlier: Sequence[str], metric: str) -> Census:
    """Census of a plan in one shard, by the outcome it is measured by."""
    place = {user: i for i, user in enumerate(shard.table["user_id"].to_pylist())}
    rows = np.array([place[u] for u in shard.log["user_id"].to_pylist()], dtype=np.int64)
    inside = shard.audience(name, earlier)
    values = shard.log[metric].cast(pa.float64()).to_numpy()
    own = values[inside[rows] & np.isfinite(values)]
    n, out = int(inside.sum()), int((inside & shard.held_out[name]).sum())
    elsewhere = int(shard.inside[name].sum()) - n
    return Census(n, elsewhere, out, len(own), float(own.sum()), float((own**2).sum()))


def added(parts: list[Census]) -> Census:
    """Census over all shards."""
    return Census(*(sum(column) for column in zip(*parts, strict=True)))
