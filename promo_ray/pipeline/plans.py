"""Stage plans: a menu, a holdout and a list of users for each lifecycle plan of the campaign."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BeforeValidator

from promo_ray.allocation import Block, choose_block, solve_resident
from promo_ray.artifacts import FileEntry, PartWriter
from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.plan_set import PLAN_SET, SCHEMA
from promo_ray.artifacts.response_model import RESPONSE_MODEL
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.artifacts.users import USERS
from promo_ray.config import config_class, resolve
from promo_ray.design.constraints import Constraints
from promo_ray.design.grid import OfferGrid
from promo_ray.design.menu import search_menu
from promo_ray.design.plan_catalog import ABOUT_ITEMS, LifecyclePlan
from promo_ray.design.plans import (
    PlannedMenu,
    holdout_of,
    measurement,
    plan_grid,
    plans_of,
    rules_of,
)
from promo_ray.design.stand_ins import StandInSurface
from promo_ray.errors import ConfigError
from promo_ray.execution import Resident
from promo_ray.pipeline.design import (
    NO_OFFER_PAYS,
    DesignConfig,
    budgets_per_user,
    missing,
    money_per_user,
)
from promo_ray.pipeline.menu_axes import axes_of
from promo_ray.pipeline.menu_grid import grid_of
from promo_ray.pipeline.menu_samples import Part, Sampler, draw, gathered, sampler_of
from promo_ray.pipeline.plan_users import (
    Census,
    PlanSource,
    PlanUsers,
    added,
    census,
    plan_sources,
)
from promo_ray.pipeline.scoring import design_of
from promo_ray.pipeline.stage import Context, StageResult, current, finished, skipped
from promo_ray.response.model import ResponseModel
from promo_ray.seeding import derive, keys_of

_FEWEST = 50  # users with the plan, below which a menu can be neither searched nor judged
_FEWEST_LOGGED = 30  # rows of the log that tell how much an outcome varies
_ENUMERATED = 2_000  # menus that are tried one by one instead of searched


def named_plans(settings: Any) -> dict[str, LifecyclePlan]:
    """The plans that a campaign names, with their settings; see `plans_of`.

    Raises:
        ConfigError: what `plans_of` refuses, or an audience about items that are not named.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"plans must be a section; got {settings!r}")
    plans = plans_of({name: {} if own is None else own for name, own in settings.items()})
    for name in settings:
        for column in plans[name].columns:
            if column in ABOUT_ITEMS and not plans[name].items:
                raise ConfigError(f"plans.{name}.items must name what {column!r} is about")
    return {name: plans[name] for name in settings}


NamedPlans = Annotated[Mapping[str, LifecyclePlan], BeforeValidator(named_plans)]


@config_class
class PlansConfig:
    """Lifecycle plans, and how menus are searched.

    Attributes:
        plans: plan by name, see `promo_ray.design.plan_catalog.LifecyclePlan`. A user belongs to
            the first whose rules hold, unless that plan is left out.
        design: candidates, rules, windows, channels and effort of the search, as for the
            campaign's own menu; its segments and today's menu play no part.
    """

    plans: NamedPlans
    design: DesignConfig = DesignConfig()


class _Work(NamedTuple):
    """What the plans of a run share."""

    config: PlansConfig
    context: Context
    resident: Resident[PlanUsers]
    sources: list[PlanSource]
    grid: OfferGrid
    sampler: Sampler
    currency: str
    n_users: int


class _Planned(NamedTuple):
    menu: PlannedMenu
    n_in_earlier: int
    slots: list[NDArray[np.int32]]  # by shard, of the users treated; -1 = no offer


def run(config: PlansConfig, context: Context) -> StageResult:
    """Write `plan_set`."""
    if not config.plans:
        raise ConfigError("plans must name at least one plan, for example {win_back: {}}")
    if why := missing(context):
        return skipped("plans", why, context, [PLAN_SET])
    inputs = context.inputs(RESPONSE_MODEL, USER_PROFILES, USERS, CAMPAIGN_LOG, EVENTS, CATALOG)
    if context.is_current(PLAN_SET, config, inputs):
        return current("plans", context, [PLAN_SET])
    started = time.perf_counter()
    work = _prepared(config, context)
    planned: list[_Planned] = []
    left_out: list[dict[str, str]] = []
    for number, name in enumerate(config.plans, start=1):
        found = _plan(name, work, [p.menu.name for p in planned])
        if isinstance(found, str):
            left_out.append({"plan": name, "why": found})
        else:
            planned.append(found)
        context.progress("plans", number, len(config.plans), last=name)
    _write(work, planned, left_out, inputs)
    work.resident.release()
    return finished("plans", context, [PLAN_SET], started)


def _prepared(config: PlansConfig, context: Context) -> _Work:
    design = config.design
    holdouts = {name: holdout_of(name, plan) for name, plan in config.plans.items()}
    sources = plan_sources(context, config.plans, holdouts)
    resident: Resident[PlanUsers] = context.executor.load(sources)
    grid = grid_of(design.support, design.wide, context)
    axes = axes_of({}, design.windows, design.channels)
    sampler = sampler_of(context, grid.terms, axes, design.robustness, design.n_refits)
    currency = design_of(context)["currency"]
    n_users = context.store.read(USERS).json("shards")["n_users"]
    return _Work(config, context, resident, sources, grid, sampler, currency, n_users)


def _plan(name: str, work: _Work, earlier: Sequence[str]) -> _Planned | str:
    """A plan with its menu and who gets what, or why there is none.

    Users whom an earlier plan has, held out or not, are not in it: they are measured by that one.
    """
    plan, design = work.config.plans[name], work.config.design
    own = added(work.resident.map(census, name, earlier, plan.metric))
    n_treated = own.n - own.n_held_out
    if n_treated < _FEWEST:
        n = f"only {n_treated} users are" if own.n else "nobody is"
        return f"{n} in its audience and not held out; a menu needs {_FEWEST}"
    if not own.n_held_out:
        return f"nobody of the {own.n} users of its audience is held out; raise holdout_rate"
    if own.n_log < _FEWEST_LOGGED:
        return f"the log knows {plan.metric} of only {own.n_log} users of its audience"
    spread = own.squares / own.n_log - (own.total / own.n_log) ** 2
    if not spread > 1e-12:
        return f"{plan.metric} does not vary in its audience, so nothing can be measured"
    measured = measurement(plan, own.n, math.sqrt(spread), own.n_held_out)
    grid, stand_ins = plan_grid(plan, work.grid, work.currency)
    rules = _rules(name, plan, grid, work)
    if isinstance(rules, str):
        return rules
    space = work.sampler.axes.space(grid, plan.max_offers, rules)
    if not space.n_allowed:
        return "its rules allow none of the candidates"
    surfaces = (StandInSurface(s, stand_ins, work.sampler.is_money) for s in work.sampler.surfaces)
    sampler = work.sampler._replace(surfaces=tuple(surfaces), terms=grid.terms)
    context = work.context
    rate = min(0.4, design.n_sample / n_treated)
    parts = work.resident.map(_draw, name, earlier, sampler, context.seed, rate)
    samples = gathered(parts, sampler)
    budget = _budget(plan, own, work)
    per_user = money_per_user(*budget, measured.n_treated, space, samples.search)
    menu = search_menu(
        samples,
        space,
        budget_per_user=budgets_per_user(design, per_user),
        fixed_cost=design.fixed_cost / measured.n_treated,
        islands=design.islands,
        max_evals=design.max_evals,
        enumerate_up_to=max(design.enumerate_up_to, _ENUMERATED),
        seed=derive(context.seed, f"plan {name}"),
        executor=context.executor,
        device=context.device,
        progress=context.progress,
    )
    if not menu.menu:
        return NO_OFFER_PAYS
    planned = PlannedMenu(name, plan, own.n, measured, menu, per_user * measured.n_treated)
    slots = _allocated(planned, earlier, sampler, work)
    return _Planned(planned, own.n_in_earlier, slots)


def _rules(name: str, plan: LifecyclePlan, grid: OfferGrid, work: _Work) -> Constraints | str:
    """Rules of the plan's menu, or why there can be none."""
    base = work.config.design.constraints
    allowed = set(plan.mechanics) if base.mechanics is None else set(base.mechanics)
    there = {m for m in grid.terms["mechanic"].to_pylist() if m in plan.mechanics}
    if not there & allowed:
        words = ", ".join(plan.mechanics).replace("_", " ")
        return f"none of its mechanics ({words}) is among the candidates that the rules allow"
    model = work.sampler.surfaces[0]
    basket = model.surface.terms.typical_basket if isinstance(model, ResponseModel) else math.nan
    return rules_of(name, plan, grid, base, basket)


def _budget(plan: LifecyclePlan, own: Census, work: _Work) -> tuple[float | None, float | None]:
    """Budget over the users treated, or the share of what the best offer to all of them costs."""
    design = work.config.design
    if plan.budget is not None or plan.budget_rate is not None:
        return plan.budget, plan.budget_rate
    if design.budget is None:
        return None, design.budget_rate
    return design.budget * (own.n - own.n_held_out) / max(1, work.n_users), None


def _draw(
    shard: PlanUsers, name: str, earlier: Sequence[str], sampler: Sampler, seed: int, rate: float
) -> list[Part]:
    return draw(shard.treated(name, earlier), sampler, seed, f"plans.{name}", rate)


class _BlockSource(NamedTuple):
    """Reads the users of a plan as a block of the allocation; runs in the worker."""

    source: PlanSource
    name: str
    earlier: Sequence[str]
    sampler: Sampler
    menu: tuple[int, ...]
    n_budgets: int  # money, then contacts

    def __call__(self) -> Block:
        """Score the users who are not held out on the plan's menu."""
        table = self.source().treated(self.name, self.earlier)
        keys = keys_of(table["user_id"].to_pylist())
        n, m = table.num_rows, len(self.menu)
        if not n:
            none = np.zeros((self.n_budgets, 0, m), np.float32)
            return Block(np.zeros((0, m), np.float32), none, keys)
        columns = self.sampler.variants(self.sampler.bare(table), self.sampler.kinds(table))
        value, cost = columns.take(np.array(self.menu, dtype=np.int64))
        use = np.stack([cost.T, np.ones((n, m), np.float32)][: self.n_budgets])
        return Block(np.ascontiguousarray(value.T), use, keys)


def _allocated(
    planned: PlannedMenu, earlier: Sequence[str], sampler: Sampler, work: _Work
) -> list[NDArray[np.int32]]:
    """Who of the users treated gets which offer, by the model alone as in stage allocate."""
    # several models make the choice of a menu careful; a user gets what is best for that user
    sampler = sampler._replace(surfaces=sampler.surfaces[:1], robustness=0.0)
    context, menu, name = work.context, planned.menu.menu, planned.name
    own = {n: work.config.plans[n] for n in (*earlier, name)}
    budgets, rate = [planned.budget], work.config.design.contact_rate
    if rate is not None:
        budgets.append(float(int(rate * planned.measurement.n_treated)))
    rest = (name, earlier, sampler, menu, len(budgets))
    blocks: Resident[Block] = context.executor.load(
        [_BlockSource(s._replace(plans=own), *rest) for s in work.sources]
    )
    found = solve_resident(blocks, np.array(budgets), seed=context.seed, progress=context.progress)
    slots = blocks.map(choose_block, each=list(found.decisions))
    blocks.release()
    return slots


def _write(
    work: _Work,
    planned: list[_Planned],
    left_out: list[dict[str, str]],
    inputs: dict[str, str],
) -> None:
    context, config = work.context, work.config
    offer_ids = {p.menu.name: [o.id for o in p.menu.executable(work.currency)] for p in planned}
    with context.store.write(
        PLAN_SET, config=resolve(config), seed=context.seed, inputs=inputs
    ) as writer:
        each = [
            (index, {p.menu.name: p.slots[index] for p in planned})
            for index in range(work.resident.n_shards)
        ]
        writer.add(work.resident.map(_members, offer_ids, writer.part_writer(), each=each))
        writer.json("plans", {"plans": list(offer_ids), "skipped": left_out})
        for p in planned:
            slots = np.concatenate(p.slots)
            given = np.bincount(slots + 1, minlength=len(offer_ids[p.menu.name]) + 1)
            writer.json(f"plan-{p.menu.name}", _document(p, given, work))
        writer.metrics = {"n_plans": len(planned), "n_left_out": len(left_out)}


def _document(p: _Planned, given: NDArray[np.int64], work: _Work) -> dict[str, Any]:
    design = design_of(work.context)
    return p.menu.document(work.currency) | {
        "currency": work.currency,
        "designed_for": design["outcome"],
        "unit": work.currency if work.sampler.is_money else design["unit"],
        "n_in_earlier_plans": p.n_in_earlier,
        "n_without_offer": int(given[0]),
        "n_of_offer": given[1:].tolist(),
    }


def _members(
    shard: PlanUsers,
    offer_ids: Mapping[str, list[str]],
    write: PartWriter,
    own: tuple[int, Mapping[str, NDArray[np.int32]]],
) -> FileEntry:
    """Audience of every plan in one shard, in the order of users, with what each gets."""
    index, slots = own
    parts = [SCHEMA.empty_table()]
    for number, (name, ids) in enumerate(offer_ids.items()):
        inside = shard.audience(name, list(offer_ids)[:number])
        audience = shard.table["user_id"].filter(pa.array(inside))
        is_out = shard.held_out[name][inside]
        slot = np.full(len(audience), -1, dtype=np.int64)
        slot[~is_out] = slots[name]
        offers = pa.array([ids[s] if s >= 0 else None for s in slot.tolist()], pa.string())
        names = pa.array([name] * len(audience), pa.string())
        columns = [names, audience.combine_chunks(), offers, pa.array(is_out)]
        parts.append(pa.Table.from_arrays(columns, schema=SCHEMA))
    return write("members", index, pa.concat_tables(parts))
