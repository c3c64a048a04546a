"""Candidates of the menu: the offers of the log, offers between them, or a grid of the shop."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from promo_ray.artifacts import PartRef
from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.response_model import RESPONSE_MODEL
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.artifacts.users import USERS
from promo_ray.config import config_class
from promo_ray.design.bundles import propose_bundles
from promo_ray.design.grid import OfferGrid, offer_grid
from promo_ray.design.wide_grid import GridSteps, wide_grid
from promo_ray.errors import ConfigError
from promo_ray.pipeline.scoring import design_of
from promo_ray.pipeline.stage import Context
from promo_ray.seeding import keys_of, uniforms

_MOST_USERS = 20_000  # whose baskets and orders the grid is made from


@config_class
class WideConfig:
    """The grid of `support: wide`.

    Attributes:
        steps: see `GridSteps`.
        scopes: category paths that percentages and amounts may apply to, beside the whole basket.
        n_bundles: item sets bought together that are proposed beside those of the log.
    """

    steps: GridSteps = GridSteps()
    scopes: tuple[str, ...] = ()
    n_bundles: Annotated[int, Field(ge=0, le=50)] = 0


def grid_of(support: str, wide: WideConfig, context: Context) -> OfferGrid:
    """Candidates for a menu; see `DesignConfig.support`.

    Raises:
        ConfigError: `wide` without baskets, bundles to propose without events, or a scope that is
            no category of the catalog.
    """
    tried = context.store.read(RESPONSE_MODEL).table("offers")
    currency = design_of(context)["currency"]
    if support != "wide":
        return offer_grid(tried, support, currency)
    _check_scopes(wide.scopes, context)
    rate = min(1.0, _MOST_USERS / max(1, context.store.read(USERS).json("shards")["n_users"]))
    resident = context.executor.load(context.store.read(USER_PROFILES).parts("user_profiles"))
    baskets = np.concatenate(resident.map(_baskets, context.seed, rate))
    resident.release()
    if not (baskets > 0).any():
        raise ConfigError("design.support must not be wide where no user has a basket")
    sets = [tuple(items) for items in tried["item_ids"].to_pylist() if items]
    if wide.n_bundles:
        sets += _proposed(wide.n_bundles, rate, context)
    return wide_grid(
        baskets, steps=wide.steps, scopes=wide.scopes, bundles=list(dict.fromkeys(sets)),
        tried=tried, currency=currency,
    )  # fmt: skip


def _check_scopes(scopes: tuple[str, ...], context: Context) -> None:
    if not scopes or not context.has(CATALOG):
        return
    known: set[str] = set()
    for path in context.store.read(CATALOG).table("catalog")["category"].unique().to_pylist():
        parts = path.split(" > ")
        known.update(" > ".join(parts[:n]) for n in range(1, len(parts) + 1))
    for scope in scopes:
        if scope not in known:
            some = ", ".join(sorted(known)[:5])
            raise ConfigError(
                f"design.wide.scopes must be categories of the catalog, such as {some}; "
                f"got {scope!r}"
            )


def _drawn(ids: pa.ChunkedArray, seed: int, rate: float) -> pa.Array:
    names = ids.unique()
    chosen = uniforms(seed, "design.grid", keys_of(names.to_pylist()))[:, 0] < rate
    return pc.is_in(ids, names.filter(pa.array(chosen)))


def _baskets(profiles: pa.Table, seed: int, rate: float) -> NDArray[np.float64]:
    known = profiles.filter(_drawn(profiles["user_id"], seed, rate))["basket_median"].drop_null()
    found: NDArray[np.float64] = known.to_numpy()
    return found


class _Lines(NamedTuple):
    orders: list[str]
    items: list[str]


def _lines(events: pa.Table, seed: int, rate: float) -> _Lines:
    """Order and item of each purchase of the drawn users; without an id a day is an order."""
    bought = events.filter(pc.equal(events["event_type"], "purchase"))
    bought = bought.filter(_drawn(bought["user_id"], seed, rate))
    day = pc.strftime(bought["at"], format="day %Y-%m-%d")
    order = pc.binary_join_element_wise(
        bought["user_id"], pc.coalesce(bought["order_id"], day.cast(pa.string())), " "
    )
    return _Lines(order.to_pylist(), bought["item_id"].to_pylist())


def _proposed(n: int, rate: float, context: Context) -> list[tuple[str, ...]]:
    if not context.has(EVENTS):
        raise ConfigError(f"design.wide.n_bundles must be 0 without events; got {n}")
    parts: list[PartRef] = context.store.read(EVENTS).parts("events")
    resident = context.executor.load(parts)
    found = resident.map(_lines, context.seed, rate, progress=context.progress, stage="bundles")
    resident.release()
    orders = [order for lines in found for order in lines.orders]
    items = [item for lines in found for item in lines.items]
    return [bundle.items for bundle in propose_bundles(orders, items, n_bundles=n)]
