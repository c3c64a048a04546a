"""Lifecycle plans: whom, to what end, with what, within which limits, and how it is measured.

All plans stand in one config (`plans_of`); each is one entry that can be compared and approved.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.config import parse, resolve
from promo_ray.design.audience import members
from promo_ray.design.budgets import Budget, Budgets, budgets_of
from promo_ray.design.columns import Surface
from promo_ray.design.constraints import Constraints
from promo_ray.design.genome import MenuSpace
from promo_ray.design.grid import OfferGrid, free_id
from promo_ray.design.menu import MenuResult, design_menu
from promo_ray.design.plan_catalog import PLANS, LifecyclePlan
from promo_ray.design.plan_power import Measurement, holdout_for, measurement
from promo_ray.design.stand_ins import StandIn, StandInSurface, free_shipping, gift, tiered
from promo_ray.design.users import MenuUsers
from promo_ray.errors import ConfigError, DataError
from promo_ray.offers import Audience, Offer

__all__ = [
    "PLANS",
    "LifecyclePlan",
    "Measurement",
    "PlannedMenu",
    "audience_of",
    "constraints_of",
    "holdout_for",
    "holdout_of",
    "measurement",
    "plan_grid",
    "plan_menu",
    "plans_of",
    "rules_of",
]


_SUPPORT_WORDS = {
    "tried": "only offers that were tried",
    "between": "only offers within the range of what was tried",
}
_NAME = re.compile("[a-z][a-z0-9_]{0,39}")  # it names a file, a list of users and a salt


def plans_of(settings: Mapping[str, Any]) -> dict[str, LifecyclePlan]:
    """All plans of one config.

    Args:
        settings: plan by name: changes of a plan of `PLANS`, or a whole new one. Plans that are
            not named stay as they are.

    Raises:
        ConfigError: unknown key, wrong type, a value out of range or a name that is no name; plan
            and key are named.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"plans must be a section; got {settings!r}")
    plans = dict(PLANS)
    for name, changes in settings.items():
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise ConfigError(f"name of a plan must be of a-z, 0-9 and _; got {name!r}")
        if isinstance(changes, LifecyclePlan):
            plans[name] = changes
            continue
        if not isinstance(changes, Mapping):
            raise ConfigError(f"plans.{name} must be a section; got {changes!r}")
        known = resolve(plans[name]) if name in plans else {}
        plans[name] = parse(LifecyclePlan, {**known, **changes}, where=f"plans.{name}")
    return plans


def audience_of(name: str, plan: LifecyclePlan, profiles: pa.Table) -> NDArray[np.bool_]:
    """`(n,)` bool users whom a plan is for.

    Raises:
        DataError: a column is missing or holds no numbers, or nobody is in the audience.
    """
    inside = members(plan.audience, profiles, f"plans.{name}.audience")
    if not inside.any():
        raise DataError(
            f"must hold at least one of {profiles.num_rows} users; the audience is empty",
            where=f"plans.{name}.audience",
        )
    return inside


def constraints_of(plan: LifecyclePlan, base: Constraints | None = None) -> Constraints:
    """Rules of a plan's menu, on top of the shop's own; of two limits the tighter one holds."""
    base = base or Constraints()
    depths = [d for d in (plan.max_depth_rate, base.max_depth_rate) if d is not None]
    floors = [m for m in (plan.min_margin_rate, base.min_margin_rate) if m is not None]
    sizes = [n for n in (plan.max_offers, base.max_offers) if n is not None]
    allowed = plan.mechanics if base.mechanics is None else base.mechanics
    return replace(
        base,
        max_depth_rate=min(depths),
        min_margin_rate=max(floors) if floors else None,
        max_offers=min(sizes),
        mechanics=tuple(m for m in plan.mechanics if m in allowed),
    )


def plan_grid(
    plan: LifecyclePlan, grid: OfferGrid, currency: str
) -> tuple[OfferGrid, dict[str, StandIn]]:
    """Offers of a plan's mechanics, and those of them that others stand in for.

    The plan's own offers are added, none of them tried. An id that another has gets a number
    behind it. Where the plan is about some items, bundles without any of them are left out.
    """
    items = set(plan.items)
    kept = [
        row["mechanic"] in plan.mechanics
        and not (
            items and row["mechanic"] == "product_bundle" and items.isdisjoint(row["item_ids"])
        )
        for row in grid.terms.select(["mechanic", "item_ids"]).to_pylist()
    ]
    made = [
        *(free_shipping(own, currency) for own in plan.shipping),
        *(gift(own, currency) for own in plan.gifts),
        *(tiered(own, currency) for own in plan.tiers),
    ]
    taken = set(grid.offer_ids)
    stand_ins = [s.named(free_id(s.offer.id, taken)) for s in made]
    own = grid.where(np.array(kept, dtype=bool))
    own = own.plus([s.row for s in stand_ins], [s.offer for s in stand_ins])
    return own, {s.offer.id: s for s in stand_ins}


def rules_of(
    name: str, plan: LifecyclePlan, grid: OfferGrid, base: Constraints, basket: float
) -> Constraints:
    """Rules of a plan's menu on its grid; see `constraints_of`.

    Args:
        name: of the plan.
        plan: the plan.
        grid: its candidates.
        base: the shop's own rules; names in them that the grid lacks are left out.
        basket: typical order of the audience, currency units, for the depth of amounts off where
            the shop's rules tell none; NaN = unknown.

    Raises:
        ConfigError: no mechanic of the plan is in the grid and allowed by the shop, or a gift
            without a threshold is perceived as worth more than a typical order.
    """
    rules = constraints_of(plan, base)
    there = set(grid.terms["mechanic"].to_pylist())
    mechanics = tuple(m for m in rules.mechanics or () if m in there)
    if not mechanics:
        raise ConfigError(f"plans.{name}.mechanics must be among those of the grid and the shop")
    known = there | set(grid.offer_ids)
    groups = (tuple(n for n in group if n in known) for group in rules.exclusive_groups)
    typical = rules.typical_basket
    if typical is None and math.isfinite(basket):
        typical = {"": basket}
    whole = typical.get("") if isinstance(typical, Mapping) else typical
    for own in plan.gifts:
        if whole is not None and own.threshold is None and own.perceived_value > whole:
            raise ConfigError(
                f"plans.{name}.gifts: perceived_value without a threshold must be at most a "
                f"typical order, {whole:g}; got {own.perceived_value:g} of {own.sku!r}"
            )
    return replace(
        rules,
        mechanics=mechanics,
        typical_basket=typical,
        forbidden_pairs=tuple(p for p in rules.forbidden_pairs if known >= set(p)),
        exclusive_groups=tuple(group for group in groups if group),
    )


def holdout_of(name: str, plan: LifecyclePlan) -> Audience:
    """Audience that holds out the plan's share of users; the same ones for all of its offers."""
    return Audience(holdout_bp=max(1, round(plan.holdout_rate * 10_000)), salt=f"plan {name}")


@dataclass(frozen=True)
class PlannedMenu:
    """A plan with its menu.

    Attributes:
        name: of the plan.
        plan: its settings.
        n_audience: users it is for.
        measurement: how it will be measured.
        menu: what they get.
        budget: most that it may be expected to cost, currency units, or its budgets; None =
            unlimited.
    """

    name: str
    plan: LifecyclePlan
    n_audience: int
    measurement: Measurement
    menu: MenuResult
    budget: Budgets = None

    def executable(self, currency: str = "USD") -> tuple[Offer, ...]:
        """Its offers as shops execute them, see `MenuResult.executable`.

        Each is for the users of a list that the shop is given, named by `user_ids_ref`. All offers
        of the plan hold out the same users, and their ids begin with the plan's name.
        """
        offers = []
        held_out = holdout_of(self.name, self.plan)
        for o in self.menu.executable(currency):
            own = f"{self.name}-{o.id}"
            audience = replace(
                o.audience,
                holdout_bp=held_out.holdout_bp,
                salt=held_out.salt,
                user_ids_ref=f"plan {self.name}: {own}",
            )
            caps = replace(o.caps, uses_per_user=self.plan.max_uses)
            offers.append(replace(o, id=own, audience=audience, caps=caps))
        return tuple(offers)

    def document(self, currency: str = "USD") -> dict[str, Any]:
        """Plain values for one file that can be compared and approved."""
        judged = self.menu.judged
        people = list(self.plan.guardrails)
        return {
            "plan": self.name,
            **resolve(self.plan),
            "n_audience": self.n_audience,
            "measurement": vars(self.measurement).copy(),
            "budget": self._plain_budget(),
            "guardrails": {"enforced": self._enforced(currency), "for_people": people},
            "offers": [o.words for o in self.menu.offers],
            "is_tried": [o.is_tried for o in self.menu.offers],
            "is_supported": [o.is_between for o in self.menu.offers],
            "gain_per_user": judged.gain_vs_none._asdict(),
            "cost_per_user": judged.cost,
            "bindings": [[b.constraint, b.detail, b.gain] for b in self.menu.bindings],
            "executable": [o.to_mapping() for o in self.executable(currency)],
        }

    def _plain_budget(self) -> Any:
        if self.budget is None or isinstance(self.budget, int | float):
            return self.budget
        return [vars(budget).copy() for budget in budgets_of(self.budget)]

    def _enforced(self, currency: str) -> list[str]:
        """What menu, allocation and executable offers keep by themselves, in plain words."""
        rules, plan = self.menu.constraints, self.plan
        n = rules.max_offers or plan.max_offers
        limits = [
            f"only {', '.join(rules.mechanics or plan.mechanics)}".replace("_", " "),
            f"at most {n} offer{'s' if n > 1 else ''}, one to a user",
            f"no discount above {rules.max_depth_rate or 0:.0%} of the order",
            "nobody whose predicted gain is not above 0",
            f"{plan.holdout_rate:.0%} of the audience get nothing",
        ]
        if rules.min_margin_rate is not None:
            limits.append(f"a margin of at least {rules.min_margin_rate:.0%} is left")
        if plan.max_uses is not None:
            limits.append(f"at most {plan.max_uses} order{'s' if plan.max_uses > 1 else ''} a user")
        limits += [_limit_words(budget, currency) for budget in budgets_of(self.budget)]
        if rules.support != "any":
            limits.append(_SUPPORT_WORDS[rules.support])
        return limits


def _limit_words(budget: Budget, currency: str) -> str:
    fields = (budget.mechanics, budget.channels, budget.segments, budget.scopes, budget.offer_ids)
    covered = [", ".join(map(str, names)) for names in fields if names is not None]
    of = f" for {'; '.join(covered)}".replace("_", " ") if covered else ""
    if budget.measure == "contacts":
        return f"at most {budget.limit:,.0f} contacts{of}"
    return f"an expected cost of at most {budget.limit:,.2f} {currency}{of}"


def plan_menu(
    name: str,
    plan: LifecyclePlan,
    surface: Surface | Sequence[Surface],
    users: MenuUsers,
    profiles: pa.Table,
    space: MenuSpace,
    budget: Budgets,
    *,
    outcome_sd: float,
    constraints: Constraints | None = None,
    currency: str = "USD",
    **options: Any,
) -> PlannedMenu:
    """Design the menu of a plan for its audience, the holdout left out of the budget's users.

    Args:
        name: name of the plan.
        plan: the plan.
        surface: one or several, see `design_menu`; what they predict is money if the plan has
            offers that others stand in for.
        users: all users.
        profiles: their profiles, row by row, with the columns of the plan's rules.
        space: menus to choose from; the plan's own offers come on top.
        budget: over the audience, see `design_menu`.
        outcome_sd: standard deviation of the metric between users.
        constraints: the shop's own rules; those of the space if None.
        currency: ISO 4217 code of the plan's own offers.
        options: see `design_menu`.

    Raises:
        ConfigError: a setting out of range.
        DataError: a column is missing, or the audience is empty or too small.
    """
    if profiles.num_rows != len(users.x):
        raise DataError(f"must have {len(users.x)} rows; got {profiles.num_rows}", where="profiles")
    inside = audience_of(name, plan, profiles)
    n = int(inside.sum())
    own = MenuUsers(
        users.x[inside],
        users.basket[inside],
        {k: v[inside] for k, v in users.segments.items()},
        {k: v[inside] for k, v in users.reach.items()},
    )
    measured = measurement(plan, n, outcome_sd)
    basket = float(np.nanmedian(own.basket)) if np.isfinite(own.basket).any() else math.nan
    grid, stand_ins = plan_grid(plan, space.grid, currency)
    rules = rules_of(name, plan, grid, constraints or space.constraints, basket)
    own_space = MenuSpace(
        grid, space.n_slots, segments=space.segments, windows=space.windows,
        channels=space.channels, constraints=rules,
    )  # fmt: skip
    surfaces = surface if isinstance(surface, Sequence) else (surface,)
    predicted = tuple(StandInSurface(s, stand_ins) if stand_ins else s for s in surfaces)
    options = {"n_campaign": measured.n_treated, **options}
    menu = design_menu(predicted, own, own_space, budget, rules, **options)
    return PlannedMenu(name, plan, n, measured, menu, budget)
