"""Stage design: search the menu of offers on a sample of users, judge it on others."""

from __future__ import annotations

import dataclasses
import time
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from pydantic import Field

from promo_ray import __version__
from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.manifest import fingerprint
from promo_ray.artifacts.offer_set import OFFER_SET
from promo_ray.artifacts.response_model import RESPONSE_MODEL
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.artifacts.users import USERS
from promo_ray.config import config_class, resolve
from promo_ray.design.binding import Binding
from promo_ray.design.budgets import Budget
from promo_ray.design.columns import Channel, Columns, Window
from promo_ray.design.constraints import Constraints, compiled
from promo_ray.design.executable import DesignedOffer, designed
from promo_ray.design.genome import MenuSpace
from promo_ray.design.judge import Finalist, Gain, Judgement
from promo_ray.design.menu import MenuResult, Samples, search_menu
from promo_ray.design.plan_catalog import PREDICTED, STOOD_IN
from promo_ray.errors import ConfigError, NoOfferAllowedError
from promo_ray.pipeline.menu_axes import (
    Axes,
    MenuChannel,
    MenuWindow,
    Segments,
    axes_of,
    level_rules,
    levels_of,
)
from promo_ray.pipeline.menu_grid import WideConfig, grid_of
from promo_ray.pipeline.menu_samples import (
    Sampler,
    count,
    draw,
    gathered,
    sampler_of,
    user_sources,
)
from promo_ray.pipeline.scoring import design_of
from promo_ray.pipeline.stage import Context, StageResult, current, finished, skipped


@config_class
class DesignConfig:
    """How the menu is searched.

    Attributes:
        max_offers: offers in the menu at most, >= 1.
        support: `tried` = offers of the campaign log, whose gain the log can prove; `between` =
            also depths and thresholds between tried ones, judged by the model alone; `wide` = good
            steps of every mechanic, from the shop's baskets, also outside of what was tried.
        wide: the grid of `support: wide`.
        segments: whom an offer may be for: rules on profile columns by name, or one column of
            profiles whose values are segments; none = everyone.
        windows: when an offer may hold; none = always.
        channels: how an offer may be sent; none = as the campaign of the log was.
        robustness: standard deviations between models of resampled logs that are taken off every
            value, >= 0, so that their errors are not exploited; 0 = the one model counts.
        n_refits: models of resampled logs, where robustness is above 0.
        budget: see `allocate`; in a campaign its values of both hold if both are None here, and
            alone the stage then spends what the best offer to everybody costs.
        budget_rate: see `budget`.
        contact_rate: most users that may get an offer, as a share of all; in a campaign that of
            `allocate` holds if it is None here.
        fixed_cost: cost of running one more offer, currency units.
        constraints: rules of the menu, see `promo_ray.design.Constraints`.
        today: ids of the offers that run now: a menu to start from and to be judged beside.
        n_sample: users that the search sees, as many that judge its winner, and half as many on
            whom the finalists race.
        islands: methods of one to four populations.
        max_evals: menus evaluated at most, >= 1000.
        enumerate_up_to: try every menu instead of searching if there are no more than this.
    """

    max_offers: Annotated[int, Field(ge=1, le=32)] = 4
    support: Literal["tried", "between", "wide"] = "tried"
    wide: WideConfig = WideConfig()
    segments: Segments = dataclasses.field(default_factory=dict)
    windows: tuple[MenuWindow, ...] = ()
    channels: tuple[MenuChannel, ...] = ()
    robustness: Annotated[float, Field(ge=0)] = 0.0
    n_refits: Annotated[int, Field(ge=2, le=50)] = 4
    budget: Annotated[float, Field(gt=0)] | None = None
    budget_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    contact_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    fixed_cost: Annotated[float, Field(ge=0)] = 0.0
    constraints: Constraints = Constraints()
    today: tuple[str, ...] = ()
    n_sample: Annotated[int, Field(ge=10)] = 4000
    islands: Annotated[
        tuple[Literal["ga", "pso", "sa", "auto"], ...], Field(min_length=1, max_length=4)
    ] = ("ga", "pso", "sa", "auto")
    max_evals: Annotated[int, Field(ge=1000)] = 10_000
    enumerate_up_to: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        known = dict.fromkeys((*PREDICTED, *STOOD_IN))
        for name in self.constraints.mechanics or ():
            if name not in known:
                raise ConfigError(
                    f"constraints.mechanics must be of {', '.join(known)}; got {name!r}"
                )


_AT_ONCE = 512  # variants whose values are held at a time
_LEAST_BUDGET = 1e-9  # per user, where the best offer costs nothing: the rest is as good as barred


def run(config: DesignConfig, context: Context) -> StageResult:
    """Write `offer_set`."""
    if why := missing(context):
        return skipped("design", why, context, [OFFER_SET])
    inputs = context.inputs(RESPONSE_MODEL, USER_PROFILES, USERS, CAMPAIGN_LOG, EVENTS)
    if context.is_current(OFFER_SET, config, inputs):
        return current("design", context, [OFFER_SET])
    started = time.perf_counter()
    axes = _axes(config, context)
    grid = grid_of(config.support, config.wide, context)
    space = axes.space(grid, config.max_offers, config.constraints)
    if not space.n_allowed:
        raise NoOfferAllowedError(
            f"design.constraints must allow at least one offer; none of {len(grid)} is allowed"
        )
    today = _today(config, space, axes)
    sampler = sampler_of(context, grid.terms, axes, config.robustness, config.n_refits)
    n_users, samples = _draw(config, context, sampler)
    made_from = fingerprint("menu", __version__, resolve(config), context.seed, inputs)
    checkpoint = f".design-{made_from[:16]}"  # a search of other settings has another place
    context.store.sweep(".design-", keep=checkpoint)
    rate = config.budget_rate
    money = money_per_user(config.budget, rate, n_users, space, samples.search)
    result = search_menu(
        samples,
        space,
        budget_per_user=budgets_per_user(config, money),
        today=today,
        fixed_cost=config.fixed_cost / max(1, n_users),
        islands=config.islands,
        max_evals=config.max_evals,
        enumerate_up_to=config.enumerate_up_to,
        seed=context.seed,
        executor=context.executor,
        device=context.device,
        checkpoint_uri=f"{context.store.uri}/{checkpoint}",
        progress=context.progress,
    )
    context.store.sweep(".design-")
    if not result.menu:
        return skipped("design", NO_OFFER_PAYS, context, [OFFER_SET])
    _write(config, context, space, axes, result, inputs)
    return finished("design", context, [OFFER_SET], started)


NO_OFFER_PAYS = "no offer is worth its cost within the budget and the rules"


def absent(context: Context) -> str:
    """Why there is no menu of offers, after the stage ran."""
    return missing(context) or NO_OFFER_PAYS


def missing(context: Context) -> str:
    """Why the stage cannot run; empty if it can."""
    has_both = context.has(RESPONSE_MODEL) and context.has(CAMPAIGN_LOG)
    return "" if has_both else "there is no response model to judge offers by"


def money_per_user(
    budget: float | None, rate: float | None, n_users: int, space: MenuSpace, sample: Columns
) -> float:
    """Budget per user, as the allocation will have it.

    Args:
        budget: over all users, currency units; None = `rate`.
        rate: of what the best offer allowed, given to everybody, costs; None = 1.
        n_users: users that share it.
        space: menus to choose from.
        sample: values and costs of its variants.
    """
    if budget is not None:
        return budget / max(1, n_users)
    rows = space.row_of(np.arange(space.n_offers))
    allowed = np.flatnonzero(compiled(space.constraints, space.grid).mended[rows] == rows)
    best, its_cost = -np.inf, 0.0
    for start in range(0, len(allowed), _AT_ONCE):
        value, cost = (a.T for a in sample.take(allowed[start : start + _AT_ONCE]))
        able = np.isfinite(value)
        total = np.where(able, value, 0.0).sum(axis=0, dtype=np.float64)
        at = int(total.argmax())
        if total[at] > best:
            best = float(total[at])
            its_cost = float(np.where(able, cost, 0.0).mean(axis=0, dtype=np.float64)[at])
    return max((rate or 1.0) * its_cost, _LEAST_BUDGET)


def budgets_per_user(config: DesignConfig, money: float) -> dict[str, float | Budget]:
    """Budgets per user by name: the money, and the contacts where they are limited."""
    found: dict[str, float | Budget] = {Budget.name: money}
    if config.contact_rate is not None:
        found["contacts"] = Budget(limit=config.contact_rate, measure="contacts")
    return found


def _axes(config: DesignConfig, context: Context) -> Axes:
    segments = config.segments
    if isinstance(segments, str):
        resident = context.executor.load(user_sources(context))
        levels = resident.map(levels_of, segments)
        resident.release()
        segments = level_rules(segments, [level for part in levels for level in part])
    return axes_of(segments, config.windows, config.channels)


def _draw(config: DesignConfig, context: Context, sampler: Sampler) -> tuple[int, Samples]:
    """Number of users, and disjoint samples of them by the hash of their ids."""
    resident = context.executor.load(user_sources(context))
    n = sum(resident.map(count))
    rate = min(0.4, config.n_sample / max(1, n))
    parts = resident.map(
        draw, sampler, context.seed, "design.sample", rate,
        progress=context.progress, stage="sample users",
    )  # fmt: skip
    resident.release()
    return n, gathered(parts, sampler)


def _today(config: DesignConfig, space: MenuSpace, axes: Axes) -> tuple[int, ...] | None:
    place = {name: i for i, name in enumerate(space.grid.offer_ids)}
    if config.today and not axes.is_plain:
        raise ConfigError(
            "design.today must be empty with segments, windows or channels: it has none of its own"
        )
    for name in config.today:
        if name not in place:
            raise ConfigError(
                f"design.today must name candidates, with support {config.support} such as "
                f"{space.grid.offer_ids[0]}; got {name!r}"
            )
    return tuple(sorted(place[name] for name in config.today)) if config.today else None


def _write(
    config: DesignConfig,
    context: Context,
    space: MenuSpace,
    axes: Axes,
    result: MenuResult,
    inputs: dict[str, str],
) -> None:
    terms, offers = result.offer_set(design_of(context)["currency"])
    single = result.judged.single_offer
    with context.store.write(
        OFFER_SET, config=resolve(config), seed=context.seed, inputs=inputs
    ) as writer:
        writer.table("offers", terms)
        writer.json("offers", [orjson.loads(offer.to_json()) for offer in offers])
        if not axes.is_plain:
            writer.json("variants", [_variant(o, axes) for o in result.offers])
        writer.json(
            "search",
            {
                "history": list(result.history),
                "takeovers": list(result.takeovers),
                "islands": config.islands,
                "n_evals": result.n_evals,
                "n_menus": min(result.n_menus, 2**53),
                "is_enumerated": result.enumerated,
                "search_value": result.search_value,
                "judged": _plain(result.judged),
                "single_offer": None if single is None else designed(space, single).words,
                "is_tried": [o.is_tried for o in result.offers],
                "is_between": [o.is_between for o in result.offers],
                "words": [o.words for o in result.offers],
                "finalists": [_named(f, space) for f in result.finalists],
                "bindings": [_named(b, space) for b in result.bindings],
            },
        )
        writer.metrics = _metrics(result)


def _variant(offer: DesignedOffer, axes: Axes) -> dict[str, Any]:
    """Whom an offer is for and when: `scoring.Limit`, and its names."""
    window = next(w for w in axes.windows if w.name == offer.window)
    channels = [c.name for c in axes.channels]
    rules = (*axes.segments[offer.segment], *axes.reach[channels.index(offer.channel)])
    is_as_logged = window == Window() and offer.channel == Channel().name
    return {
        "base_id": offer.terms["offer_id"],
        "segment": offer.segment,
        "window": offer.window,
        "channel": offer.channel,
        "rules": [resolve(rule) for rule in rules],
        "share": window.share,
        "is_tried": offer.is_tried and is_as_logged,
    }


def _named(row: Finalist | Binding, space: MenuSpace) -> dict[str, Any]:
    """A finalist or a binding constraint with the ids of its menu."""
    is_plain = space.n_offers == len(space.grid)
    offers = [designed(space, v) for v in row.menu]
    plain = row._asdict()
    plain["menu"] = [o.terms["offer_id"] if is_plain else o.words for o in offers]
    return {k: v._asdict() if isinstance(v, Gain) else v for k, v in plain.items()}


def _plain(judged: Judgement) -> dict[str, Any]:
    fields = {f.name: getattr(judged, f.name) for f in dataclasses.fields(judged)}
    return {k: v._asdict() if isinstance(v, Gain) else v for k, v in fields.items()}


def _metrics(result: MenuResult) -> dict[str, Any]:
    judged = result.judged
    return {
        "n_offers": len(result.menu),
        "n_evals": result.n_evals,
        "value_per_user": judged.value,
        "gain_vs_single": judged.gain_vs_single.mean,
    }
