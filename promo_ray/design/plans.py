"""Lifecycle plans: whom, to what end, with what, within which limits, and how it is measured.

All plans stand in one config (`plans_of`); each is one entry that can be compared and approved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import ndtri

from promo_ray.config import parse, resolve
from promo_ray.design.columns import Surface
from promo_ray.design.constraints import Constraints
from promo_ray.design.genome import MenuSpace
from promo_ray.design.menu import MenuResult, design_menu
from promo_ray.design.plan_catalog import PLANS, LifecyclePlan
from promo_ray.design.users import MenuUsers
from promo_ray.errors import ConfigError, DataError
from promo_ray.offers import Offer


def plans_of(settings: Mapping[str, Any]) -> dict[str, LifecyclePlan]:
    """All plans of one config.

    Args:
        settings: plan by name: changes of a plan of `PLANS`, or a whole new one. Plans that are
            not named stay as they are.

    Raises:
        ConfigError: unknown key, wrong type or a value out of range; plan and key are named.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"plans must be a section; got {settings!r}")
    plans = dict(PLANS)
    for name, changes in settings.items():
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
    inside = np.ones(profiles.num_rows, dtype=bool)
    for rule in plan.audience:
        values = _column(name, profiles, rule.column)
        if rule.is_in:
            texts = pc.is_in(pc.cast(values, pa.string()), pa.array(rule.is_in))
            inside &= texts.to_numpy(zero_copy_only=False)
        if rule.at_least is not None:
            inside &= _numbers(name, rule.column, values) >= rule.at_least
        if rule.below is not None:
            inside &= _numbers(name, rule.column, values) < rule.below
        if rule.above_column is not None:
            other = _column(name, profiles, rule.above_column)
            numbers = _numbers(name, rule.column, values)
            inside &= numbers > _numbers(name, rule.above_column, other)
    if not inside.any():
        raise DataError(
            f"must hold at least one of {profiles.num_rows} users; the audience is empty",
            where=f"plans.{name}.audience",
        )
    return inside


def _column(name: str, profiles: pa.Table, column: str) -> pa.Array:
    if column not in profiles.column_names:
        raise DataError(f"profiles must have the column {column!r}", where=f"plans.{name}.audience")
    return profiles[column].combine_chunks()


def _numbers(name: str, column: str, values: pa.Array) -> NDArray[np.float64]:
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise DataError(
            f"column {column!r} must hold numbers; got {kind}", where=f"plans.{name}.audience"
        )
    found: NDArray[np.float64] = pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
    return found


@dataclass(frozen=True)
class Measurement:
    """How a plan will be measured.

    Attributes:
        n_treated, n_holdout: users with the plan and without.
        holdout_rate: share of the audience held out.
        detectable: smallest effect per user that is found with the plan's power.
    """

    n_treated: int
    n_holdout: int
    holdout_rate: float
    detectable: float


def measurement(plan: LifecyclePlan, n_users: int, outcome_sd: float) -> Measurement:
    """Holdout of a plan, and what it can detect.

    Source: two-sample z-test of means, (z_(1 - alpha / 2) + z_power) sd sqrt(1 / n1 + 1 / n0)
    (Cohen 1988).

    Args:
        plan: the plan.
        n_users: users of the audience, >= 2.
        outcome_sd: standard deviation of the metric between users, > 0.

    Raises:
        ConfigError: fewer than two users, or a standard deviation not above 0.
    """
    _check(n_users, outcome_sd)
    n_holdout = min(max(1, round(plan.holdout_rate * n_users)), n_users - 1)
    n_treated = n_users - n_holdout
    half = _z(plan) * outcome_sd * math.sqrt(1 / n_treated + 1 / n_holdout)
    return Measurement(n_treated, n_holdout, n_holdout / n_users, half)


def holdout_for(plan: LifecyclePlan, n_users: int, outcome_sd: float, effect: float) -> float:
    """Smallest share to hold out so that an effect per user can be found.

    Raises:
        ConfigError: no share suffices; the least effect that could be found is named.
    """
    _check(n_users, outcome_sd)
    least = 2 * _z(plan) * outcome_sd / math.sqrt(n_users)  # at a half
    if not effect >= least:
        raise ConfigError(
            f"effect must be >= {least:.4g} to be found among {n_users} users; got {effect}"
        )
    return (1 - math.sqrt(max(0.0, 1 - (least / effect) ** 2))) / 2


def _check(n_users: int, outcome_sd: float) -> None:
    if n_users < 2:
        raise ConfigError(f"n_users must be >= 2; got {n_users}")
    if not 0 < outcome_sd < math.inf:
        raise ConfigError(f"outcome_sd must be finite and > 0; got {outcome_sd}")


def _z(plan: LifecyclePlan) -> float:
    return float(ndtri(1 - plan.alpha / 2) + ndtri(plan.power))


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


@dataclass(frozen=True)
class PlannedMenu:
    """A plan with its menu.

    Attributes:
        name: of the plan.
        plan: its settings.
        n_audience: users it is for.
        measurement: how it will be measured.
        menu: what they get.
    """

    name: str
    plan: LifecyclePlan
    n_audience: int
    measurement: Measurement
    menu: MenuResult

    def executable(self, currency: str = "USD") -> tuple[Offer, ...]:
        """Offers as shops execute them, see `MenuResult.executable`, with the plan's holdout.

        All offers of the plan hold out the same users.
        """
        held_out = max(1, round(self.plan.holdout_rate * 10_000))
        return tuple(
            replace(o, audience=replace(o.audience, holdout_bp=held_out, salt=f"plan {self.name}"))
            for o in self.menu.executable(currency)
        )

    def document(self) -> dict[str, Any]:
        """Plain values for one file that can be compared and approved."""
        judged = self.menu.judged
        return {
            "plan": self.name,
            **resolve(self.plan),
            "n_audience": self.n_audience,
            "measurement": vars(self.measurement).copy(),
            "offers": [o.words for o in self.menu.offers],
            "is_supported": [o.is_between for o in self.menu.offers],
            "gain_per_user": judged.gain_vs_none._asdict(),
            "cost_per_user": judged.cost,
            "bindings": [[b.constraint, b.detail, b.gain] for b in self.menu.bindings],
        }


def plan_menu(
    name: str,
    plan: LifecyclePlan,
    surface: Surface,
    users: MenuUsers,
    profiles: pa.Table,
    space: MenuSpace,
    budget: float | None,
    *,
    outcome_sd: float,
    constraints: Constraints | None = None,
    **options: Any,
) -> PlannedMenu:
    """Design the menu of a plan for its audience, the holdout left out of the budget's users.

    Args:
        name: name of the plan.
        plan: the plan.
        surface: see `design_menu`.
        users: all users.
        profiles: their profiles, row by row, with the columns of the plan's rules.
        space: menus to choose from.
        budget: over the audience, currency units, > 0; None = unlimited.
        outcome_sd: standard deviation of the metric between users.
        constraints: the shop's own rules; those of the space if None.
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
    rules = constraints_of(plan, constraints or space.constraints)
    there = set(space.grid.terms["mechanic"].to_pylist())
    mechanics = tuple(m for m in rules.mechanics or () if m in there)
    if not mechanics:
        raise ConfigError(f"plans.{name}.mechanics must be among those of the grid and the shop")
    if rules.typical_basket is None and np.isfinite(own.basket).any():
        rules = replace(rules, typical_basket={"": float(np.nanmedian(own.basket))})
    rules = replace(rules, mechanics=mechanics)
    options = {"n_campaign": measured.n_treated, **options}
    menu = design_menu(surface, own, space, budget, rules, **options)
    return PlannedMenu(name, plan, n, measured, menu)
