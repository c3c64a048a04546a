"""Stage design: search the menu of offers on a sample of users, judge it on others."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import Field

from promo_ray import __version__
from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.manifest import fingerprint
from promo_ray.artifacts.offer_set import OFFER_SET
from promo_ray.artifacts.response_model import RESPONSE_MODEL
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.artifacts.users import USERS
from promo_ray.config import config_class, resolve
from promo_ray.design.binding import Binding
from promo_ray.design.columns import Sample
from promo_ray.design.constraints import Constraints
from promo_ray.design.genome import MenuSpace
from promo_ray.design.grid import OfferGrid, offer_grid
from promo_ray.design.judge import Finalist, Gain, Judgement
from promo_ray.design.menu import MenuResult, Samples, search_menu
from promo_ray.errors import ConfigError, NoOfferAllowedError
from promo_ray.pipeline.scoring import Scored, design_of, scored_sources, scorer_of
from promo_ray.pipeline.stage import Context, StageResult, current, finished, skipped
from promo_ray.seeding import uniforms


@config_class
class DesignConfig:
    """How the menu is searched.

    Attributes:
        max_offers: offers in the menu at most, >= 1.
        support: `tried` = offers of the campaign log, whose gain the log can prove; `between` =
            also depths and thresholds between tried ones, judged by the model alone.
        budget: see `allocate`; in a campaign its values of both hold if both are None here, and
            alone the stage then spends what the best offer to everybody costs.
        budget_rate: see `budget`.
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
    support: Literal["tried", "between"] = "tried"
    budget: Annotated[float, Field(gt=0)] | None = None
    budget_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    fixed_cost: Annotated[float, Field(ge=0)] = 0.0
    constraints: Constraints = Constraints()
    today: tuple[str, ...] = ()
    n_sample: Annotated[int, Field(ge=10)] = 4000
    islands: Annotated[
        tuple[Literal["ga", "pso", "sa", "auto"], ...], Field(min_length=1, max_length=4)
    ] = ("ga", "pso", "sa", "auto")
    max_evals: Annotated[int, Field(ge=1000)] = 10_000
    enumerate_up_to: Annotated[int, Field(ge=0)] = 0


_LEAST_BUDGET = 1e-9  # per user, where the best offer costs nothing: the rest is as good as barred


class _Part(NamedTuple):
    u: NDArray[np.float64]
    value: NDArray[np.float32]
    cost: NDArray[np.float32]


class _Drawn(NamedTuple):
    n: int
    samples: Samples


def run(config: DesignConfig, context: Context) -> StageResult:
    """Write `offer_set`."""
    if why := missing(context):
        return skipped("design", why, context, [OFFER_SET])
    inputs = context.inputs(RESPONSE_MODEL, USER_PROFILES, USERS, CAMPAIGN_LOG)
    if context.is_current(OFFER_SET, config, inputs):
        return current("design", context, [OFFER_SET])
    started = time.perf_counter()
    currency = design_of(context)["currency"]
    tried = context.store.read(RESPONSE_MODEL).table("offers")
    grid = offer_grid(tried, config.support, currency)
    space = MenuSpace(grid, config.max_offers, constraints=config.constraints)
    if not space.n_allowed:
        raise NoOfferAllowedError(
            f"design.constraints must allow at least one offer; none of {len(grid)} is allowed"
        )
    drawn = _draw(config, context, grid)
    made_from = fingerprint("menu", __version__, resolve(config), context.seed, inputs)
    checkpoint = f".design-{made_from[:16]}"  # a search of other settings has another place
    context.store.sweep(".design-", keep=checkpoint)
    result = search_menu(
        drawn.samples,
        space,
        budget_per_user=_budget(config, drawn),
        today=_today(config, grid),
        fixed_cost=config.fixed_cost / max(1, drawn.n),
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
    _write(config, context, grid, result, inputs)
    return finished("design", context, [OFFER_SET], started)


NO_OFFER_PAYS = "no offer is worth its cost within the budget and the rules"


def absent(context: Context) -> str:
    """Why there is no menu of offers, after the stage ran."""
    return missing(context) or NO_OFFER_PAYS


def missing(context: Context) -> str:
    """Why the stage cannot run; empty if it can."""
    has_both = context.has(RESPONSE_MODEL) and context.has(CAMPAIGN_LOG)
    return "" if has_both else "there is no response model to judge offers by"


def _budget(config: DesignConfig, drawn: _Drawn) -> float:
    """Budget per user, as the allocation will have it."""
    if config.budget is not None:
        return config.budget / max(1, drawn.n)
    search = drawn.samples.search
    values, costs = search.take(np.arange(search.n_offers))
    able = np.isfinite(values)
    value = np.where(able, values, 0.0).sum(axis=1, dtype=np.float64)
    cost = np.where(able, costs, 0.0).mean(axis=1, dtype=np.float64)
    budget = (config.budget_rate or 1.0) * float(cost[int(value.argmax())])
    return max(budget, _LEAST_BUDGET)


def _draw(config: DesignConfig, context: Context, grid: OfferGrid) -> _Drawn:
    """Disjoint samples of users by the hash of their ids, scored on every offer of the grid."""
    scorer = scorer_of(context, grid.terms)
    resident = context.executor.load(scored_sources(context, scorer))
    n = sum(resident.map(_count))
    rate = min(0.4, config.n_sample / max(1, n))
    parts = resident.map(
        _sampled, context.seed, rate, progress=context.progress, stage="sample users"
    )
    resident.release()
    return _Drawn(n, Samples(*(_shuffled([part[i] for part in parts]) for i in range(3))))


def _shuffled(parts: Sequence[_Part]) -> Sample:
    """Users in the order of their draws: races and searches begin with the first of them."""
    u, value, cost = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(u, kind="stable")
    return Sample(value[order], cost[order])


def _today(config: DesignConfig, grid: OfferGrid) -> tuple[int, ...] | None:
    place = {name: i for i, name in enumerate(grid.offer_ids)}
    for name in config.today:
        if name not in place:
            raise ConfigError(f"design.today must name offers of the campaign log; got {name!r}")
    return tuple(sorted(place[name] for name in config.today)) if config.today else None


def _count(shard: Scored) -> int:
    return len(shard.user_ids)


def _sampled(shard: Scored, seed: int, rate: float) -> list[_Part]:
    """The shard's users who search, race and judge."""
    u = uniforms(seed, "design.sample", shard.keys)[:, 0]
    edges = (0.0, rate, 1.5 * rate, 2.5 * rate)
    chosen = [(u >= low) & (u < high) for low, high in itertools.pairwise(edges)]
    return [
        _Part(u[rows], shard.value[rows].astype(np.float32), shard.cost[rows].astype(np.float32))
        for rows in chosen
    ]


def _write(
    config: DesignConfig,
    context: Context,
    grid: OfferGrid,
    result: MenuResult,
    inputs: dict[str, str],
) -> None:
    chosen = list(result.menu)
    offers = result.executable(design_of(context)["currency"])
    single = result.judged.single_offer
    with context.store.write(
        OFFER_SET, config=resolve(config), seed=context.seed, inputs=inputs
    ) as writer:
        writer.table("offers", grid.terms.take(chosen))
        writer.json("offers", [orjson.loads(offer.to_json()) for offer in offers])
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
                "single_offer": None if single is None else grid.terms["label"][single].as_py(),
                "is_tried": [bool(grid.is_tried[i]) for i in chosen],
                "is_between": [bool(grid.is_between[i]) for i in chosen],
                "words": [offer.describe() for offer in offers],
                "finalists": [_named(f, grid) for f in result.finalists],
                "bindings": [_named(b, grid) for b in result.bindings],
            },
        )
        writer.metrics = _metrics(result)


def _named(row: Finalist | Binding, grid: OfferGrid) -> dict[str, Any]:
    """A finalist or a binding constraint with the ids of its menu."""
    plain = row._asdict() | {"menu": [grid.offer_ids[i] for i in row.menu]}
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
