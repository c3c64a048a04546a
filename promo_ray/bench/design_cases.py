"""Simulated shops for benchmarks of the design of menus."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promo_ray.data.shop_traits import traits_of
from promo_ray.data.simulate import Shop
from promo_ray.design import (
    Budget,
    Channel,
    Columns,
    Constraints,
    GridSteps,
    MenuFitness,
    MenuSpace,
    OfferGrid,
    Predicted,
    Sample,
    Samples,
    Variants,
    Window,
    propose_bundles,
    wide_grid,
)
from promo_ray.design.budgets import rows_on
from promo_ray.response.surface import SurfaceEffects
from promo_ray.seeding import stream

_SEGMENTS = ("everyone", "members", "others", "frequent", "rare")
_CHANNELS = (
    Channel("app", 0.02), Channel("mail", 0.05), Channel("message", 0.15), Channel("letter", 0.8)
)  # fmt: skip
_REACH = (0.3, 0.35, 0.5, 0.9)  # share of users that a channel reaches
_WINDOWS = (
    Window(), Window("weekends", 0.35), Window("weekdays", 0.65), Window("first week", 0.4)
)  # fmt: skip
# one offer of a mechanic at a time, as most shops keep it
_GROUPS = (("percent_off",), ("amount_off",), ("spend_threshold",), ("product_bundle",))


@dataclass(frozen=True)
class Truth:
    """The exact effects of a simulated shop as a response surface; `x` holds numbers of users."""

    shop: Shop

    def effects(
        self, x: NDArray[np.float64], basket: NDArray[np.float64], offers: pa.Table
    ) -> SurfaceEffects:
        """See `ResponseSurface.effects`."""
        ids = self.shop.user_ids()
        found = self.shop.true_effects([ids[int(i)] for i in x[:, 0]], offers)
        discount = found.cost - offers["contact_cost"].to_numpy()
        return SurfaceEffects(found.value + found.cost, discount)


class Case(NamedTuple):
    """A shop, its menus, users by the part they play, and the budgets per user."""

    space: MenuSpace
    samples: Samples
    budgets: tuple[Budget, ...]

    def fitness(self, columns: Columns) -> MenuFitness:
        """Fitness on some of the users."""
        return MenuFitness(columns, budget_per_user=rows_on(self.space, self.budgets))


def small_case(seed: int, n_users: int = 2_000, n_rows: int = 16) -> Case:
    """Few enough offers to try every menu of at most four of them: 2,517 menus."""
    shop = Shop(n_users=n_users, n_items=60, n_categories=4, seed=seed)
    grid = grid_of(shop, GridSteps(contact_cost=0.1))
    rows = np.sort(stream(seed, "bench.rows").permutation(len(grid))[:n_rows])
    few = OfferGrid(grid.terms.take(pa.array(rows)), grid.is_tried[rows], grid.is_between[rows])
    sample = _all_columns(shop, few)
    return _case(MenuSpace(few, 4), sample, sample, seed, 0.2)


def large_case(seed: int, kind: str = "exclusive", n_users: int = 6_000) -> Case:
    """Hundreds of offers by five segments and four channels, menus of at most eight.

    Every channel reaches a part of the users. The budget would pay for the most wanted offer to
    all. Kinds: `plain`; `exclusive` = a menu holds one offer of a mechanic at most; `whole` = all
    genes are in use, with four windows, a fifth of that budget and four more on a part each.
    """
    shop = Shop(n_users=n_users, n_items=200, n_categories=10, seed=seed)
    grid = grid_of(shop, GridSteps())
    space = MenuSpace(
        grid,
        8,
        segments=_SEGMENTS,
        windows=_WINDOWS if kind == "whole" else (Window(),),
        channels=_CHANNELS,
        constraints=Constraints(exclusive_groups=_GROUPS) if kind == "exclusive" else None,
    )
    base = _all_columns(shop, grid)
    traits = traits_of(shop, shop.user_ids())
    is_frequent = traits.window_rate > np.median(traits.window_rate)
    everyone = np.ones(n_users, dtype=bool)
    members = (everyone, traits.is_member, ~traits.is_member, is_frequent, ~is_frequent)
    reach = stream(seed, "bench.reach").random((n_users, len(_REACH))) < _REACH
    columns = Variants(
        base,
        grid.terms["contact_cost"].to_numpy(),
        np.column_stack(members),
        reach,
        space.windows,
        space.channels,
    )
    case = _case(space, base, columns, seed, 0.2 if kind == "whole" else 1.0)
    if kind != "whole":
        return case
    part = 0.3 * case.budgets[0].limit
    more = (
        Budget(name="letters", limit=0.1, measure="contacts", channels=("letter",)),
        Budget(name="messages", limit=0.15, measure="contacts", channels=("message",)),
        Budget(name="thresholds", limit=part, mechanics=("spend_threshold",)),
        Budget(name="all baskets", limit=part, mechanics=_GROUPS[0] + _GROUPS[1], scopes=("",)),
    )
    return case._replace(budgets=case.budgets + more)


def grid_of(shop: Shop, steps: GridSteps) -> OfferGrid:
    """Wide grid of a shop from its history."""
    events = shop.events(shop.user_ids()[:1_000])
    bought = events.filter(pc.equal(events["event_type"], "purchase"))
    orders = bought["order_id"].to_numpy()
    bundles = propose_bundles(orders, bought["item_id"].to_numpy(), n_bundles=20)
    spent = pc.multiply(bought["unit_price"], bought["quantity"])
    by_order = pa.table({"order": bought["order_id"], "spent": spent}).group_by("order")
    return wide_grid(
        by_order.aggregate([("spent", "sum")])["spent_sum"].to_numpy(),
        steps=steps,
        scopes=sorted(set(shop.catalog()["category"].to_pylist())),
        bundles=[b.items for b in bundles],
        tried=shop.past_offers(),
    )


def _all_columns(shop: Shop, grid: OfferGrid) -> Sample:
    n = shop.n_users
    users = Predicted((Truth(shop),), np.arange(n, dtype=float)[:, None], np.ones(n), grid.terms)
    value, cost = users.take(np.arange(len(grid)))
    return Sample(value.T, cost.T)


def _case(space: MenuSpace, base: Sample, columns: Columns, seed: int, rate: float) -> Case:
    """Half of the users to search, a quarter to race, a quarter to judge; ids say nothing."""
    n = base.n_users
    edges = (0, n // 2, 3 * n // 4, n)
    samples = Samples(*(columns.users(slice(a, b)) for a, b in itertools.pairwise(edges)))
    most_wanted = int(base.value.mean(axis=0).argmax())
    limit = rate * float(base.cost[:, most_wanted].mean())
    return Case(space, samples, (Budget(limit=limit),))
