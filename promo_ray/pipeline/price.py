"""Stage price: elasticities tuned on held-out weeks, then list prices within guardrails."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.manifest import fingerprint
from promo_ray.artifacts.price_plan import PRICE_PLAN
from promo_ray.config import config_class, resolve
from promo_ray.pipeline.stage import Context, StageResult, current, finished, skipped
from promo_ray.pricing.demand import units_at
from promo_ray.pricing.elasticity import ElasticityTable, fit_elasticity
from promo_ray.pricing.panel import WeeklyPanel, merge_weekly_sales, panel_of, weekly_sales
from promo_ray.pricing.plan import PriceGuardrails, plan_prices
from promo_ray.pricing.tuning import SearchSpace, TuningResult, tune_serial

_FEWEST_WEEKS = 8


@config_class
class PriceConfig:
    """How prices are planned.

    Attributes:
        n_trials: hyperparameter settings tried, >= 1; the first is the default one.
        space: ranges of the hyperparameters and held-out weeks; as many weeks as a third of the
            history allows if it is shorter.
        price: price that drives demand: the one `paid`, or `list` before discounts.
        guardrails: limits of new prices.
    """

    n_trials: Annotated[int, Field(ge=1)] = 8
    space: SearchSpace = SearchSpace()
    price: Literal["paid", "list"] = "paid"
    guardrails: PriceGuardrails = PriceGuardrails()


def run(config: PriceConfig, context: Context) -> StageResult:
    """Write `price_plan`."""
    if why := missing(context):
        return skipped("price", why, context, [PRICE_PLAN])
    inputs = context.inputs(EVENTS, CATALOG)
    if context.is_current(PRICE_PLAN, config, inputs):
        return current("price", context, [PRICE_PLAN])
    started = time.perf_counter()
    catalog = context.store.read(CATALOG).table("catalog")
    resident = context.executor.load(context.store.read(EVENTS).parts("events"))
    sales = resident.reduce(weekly_sales, merge_weekly_sales)
    resident.release()
    if sales.num_rows == 0:
        return skipped("price", "nothing was sold", context, [PRICE_PLAN])
    panel = panel_of(sales, catalog, config.price)
    if panel.units.shape[1] < _FEWEST_WEEKS:
        why = f"there are sales of {panel.units.shape[1]} weeks only"
        return skipped("price", why, context, [PRICE_PLAN])
    tuned = _tune(config, context, panel, inputs)
    elasticities = fit_elasticity(panel, tuned.best)
    prices = dict(
        zip(catalog["item_id"].to_pylist(), catalog["list_price"].to_pylist(), strict=True)
    )
    old = np.array([prices.get(i, np.nan) for i in panel.item_ids], dtype=np.float64)
    half_life = tuned.best.level_half_life_weeks
    units = units_at(panel, elasticities.elasticity, old, half_life)
    plan = plan_prices(elasticities, catalog, units, config.guardrails)
    _write(config, context, plan, tuned, elasticities, inputs)
    return finished("price", context, [PRICE_PLAN], started)


def missing(context: Context) -> str:
    """Why the stage cannot run; empty if it can."""
    has_both = context.has(EVENTS) and context.has(CATALOG)
    return "" if has_both else "there are no events with a catalog"


def _tune(
    config: PriceConfig, context: Context, panel: WeeklyPanel, inputs: dict[str, str]
) -> TuningResult:
    space = _fitting(config.space, panel.units.shape[1])
    if context.tune is None:
        return tune_serial(panel, space, config.n_trials, context.seed, progress=context.progress)
    made_from = fingerprint("tuning", "", resolve(config), context.seed, inputs)
    place = f".tuning-{made_from[:16]}"  # a search of other settings has another place
    context.store.sweep(".tuning-", keep=place)
    result: TuningResult = context.tune(
        panel,
        space,
        config.n_trials,
        context.seed,
        storage=f"{context.store.uri}/{place}",
        progress=context.progress,
    )
    context.store.sweep(".tuning-")
    return result


def _fitting(space: SearchSpace, n_weeks: int) -> SearchSpace:
    """The space with no more held-out weeks than a third of the history."""
    settings: dict[str, Any] = resolve(space)
    settings["holdout_weeks"] = min(space.holdout_weeks, max(1, n_weeks // 3))
    settings["first_weeks"] = min(space.first_weeks, settings["holdout_weeks"])
    return SearchSpace(**settings)


def _write(
    config: PriceConfig,
    context: Context,
    plan: pa.Table,
    tuned: TuningResult,
    elasticities: ElasticityTable,
    inputs: dict[str, str],
) -> None:
    n_changed = int(pc.sum(pc.not_equal(plan["old_price"], plan["new_price"])).as_py() or 0)
    gain = float(pc.sum(plan["profit_change"]).as_py() or 0.0)
    summary = {
        "best": resolve(tuned.best),
        "loss": tuned.loss,
        "n_items": plan.num_rows,
        "n_changed": n_changed,
        "profit_change_per_week": gain,
        "mean_elasticity": float(np.mean(elasticities.elasticity)),
    }
    with context.store.write(
        PRICE_PLAN, config=resolve(config), seed=context.seed, inputs=inputs
    ) as writer:
        writer.table("plan", plan)
        writer.table("trials", tuned.trials)
        writer.json("summary", summary)
        writer.metrics = {k: summary[k] for k in ("n_changed", "profit_change_per_week", "loss")}
