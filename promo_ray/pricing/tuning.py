"""Search of pricing hyperparameters: seeded trials, synchronous successive halving.

Every trial is scored on the first held-out weeks; the better half goes on to twice as many, until
the few that are left have seen them all (Jamieson and Talwalkar 2016). Which trials are tried
depends on the seed alone and who goes on depends on losses alone, so that a search in this
process and one on a cluster (`promo_ray.distributed.tuning`) end with the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import orjson
import pyarrow as pa
from pydantic import Field

from promo_ray.artifacts.price_plan import TRIALS
from promo_ray.config import config_class, resolve
from promo_ray.errors import ConfigError
from promo_ray.pricing.demand import rolling_losses
from promo_ray.pricing.panel import WeeklyPanel
from promo_ray.pricing.params import PricingParams, WeekEffect
from promo_ray.pricing.proposals import RANGES, proposals_of
from promo_ray.telemetry import SILENT, Progress

Positive = Annotated[float, Field(gt=0)]
Range = tuple[Positive, Positive]


@config_class
class SearchSpace:
    """Ranges of hyperparameters, searched uniformly in the logarithm, and how long to look.

    Attributes:
        week_effect: values to choose from.
        week_prior_units: lowest and highest.
        memory_half_life_weeks: lowest and highest.
        level_half_life_weeks: lowest and highest.
        pooling_strength: lowest and highest.
        holdout_weeks: last weeks held out, >= 1.
        first_weeks: held-out weeks that every trial is scored on, in [1, holdout_weeks].
        reduction: one in this many trials goes on to that many times the weeks, >= 2.
        search: `random` draws all trials by the seed; `optuna` (an extra) proposes batches from
            what earlier ones showed.
    """

    week_effect: tuple[WeekEffect, ...] = ("none", "week")  # forecasts cannot judge the third
    week_prior_units: Range = (2.0, 500.0)
    memory_half_life_weeks: Range = (8.0, 208.0)
    level_half_life_weeks: Range = (1.0, 26.0)
    pooling_strength: Range = (0.25, 4.0)
    holdout_weeks: Annotated[int, Field(ge=1)] = 8
    first_weeks: Annotated[int, Field(ge=1)] = 2
    reduction: Annotated[int, Field(ge=2)] = 2
    search: Literal["random", "optuna"] = "random"

    def __post_init__(self) -> None:
        if self.first_weeks > self.holdout_weeks:
            raise ConfigError(
                f"first_weeks must be <= holdout_weeks = {self.holdout_weeks}; "
                f"got {self.first_weeks}"
            )
        if not self.week_effect:
            raise ConfigError("week_effect must have at least one value; got none")
        for name in RANGES:
            low, high = getattr(self, name)
            if low > high:
                raise ConfigError(f"{name} must be (lowest, highest); got ({low}, {high})")

    def rungs(self) -> list[int]:
        """Numbers of held-out weeks at which trials are compared, ascending."""
        weeks = [self.first_weeks]
        while weeks[-1] < self.holdout_weeks:
            weeks.append(min(weeks[-1] * self.reduction, self.holdout_weeks))
        return weeks


@dataclass(frozen=True, kw_only=True)
class TuningResult:
    """Outcome of a search.

    Attributes:
        trials: table `trials` of kind `price_plan`.
        best: hyperparameters of least loss among trials that saw all held-out weeks; the first of
            equals.
        loss: their held-out weighted absolute percentage error, a rate.
    """

    trials: pa.Table
    best: PricingParams
    loss: float


def successive_halving(
    n_trials: int, space: SearchSpace, loss_after: Callable[[int, int], float]
) -> list[tuple[int, float]]:
    """Weeks and loss that each trial reached, by the synchronous rule.

    Args:
        n_trials: number of trials.
        space: held-out weeks and reduction.
        loss_after: loss of a trial after a number of held-out weeks.

    Returns:
        One (weeks, loss) per trial. Equal losses go by the trial's number.
    """
    reached: list[tuple[int, float]] = [(0, float("inf"))] * n_trials
    alive = list(range(n_trials))
    for weeks in space.rungs():
        for trial in alive:
            reached[trial] = (weeks, loss_after(trial, weeks))
        alive.sort(key=lambda trial: (reached[trial][1], trial))
        alive = sorted(alive[: max(1, len(alive) // space.reduction)])
    return reached


def result_of(
    params: list[PricingParams], reached: list[tuple[int, float]], space: SearchSpace
) -> TuningResult:
    """Table and winner of a finished search."""
    configs = [orjson.dumps(resolve(p), option=orjson.OPT_SORT_KEYS).decode() for p in params]
    columns = {
        "trial": list(range(len(params))),
        "config": configs,
        "loss": [loss for _, loss in reached],
        "n_iter": [weeks for weeks, _ in reached],
    }
    full = [i for i, (weeks, _) in enumerate(reached) if weeks == space.holdout_weeks]
    winner = min(full, key=lambda i: (reached[i][1], i))
    return TuningResult(
        trials=pa.table(columns, schema=TRIALS), best=params[winner], loss=reached[winner][1]
    )


def search(
    space: SearchSpace,
    n_trials: int,
    seed: int,
    run_batch: Callable[[int, list[PricingParams]], list[tuple[int, float]]],
) -> TuningResult:
    """Ask for batches of trials, run them, and end with the best.

    Args:
        space: ranges and held-out weeks.
        n_trials: trials, >= 1; the first one has the default hyperparameters.
        seed: seed of the trials' draws.
        run_batch: gets the number of the batch's first trial and its hyperparameters; returns what
            each reached by `successive_halving`.

    Raises:
        ConfigError: n_trials < 1, or the search needs a package that is not installed.
    """
    if n_trials < 1:
        raise ConfigError(f"n_trials must be >= 1; got {n_trials}")
    proposals = proposals_of(space, seed)
    params: list[PricingParams] = []
    reached: list[tuple[int, float]] = []
    while len(params) < n_trials:
        batch = proposals.ask(n_trials - len(params))
        outcome = run_batch(len(params), batch)
        proposals.tell(outcome)
        params += batch
        reached += outcome
    return result_of(params, reached, space)


class Losses:
    """Losses of one trial week by week, computed when asked for and kept."""

    def __init__(
        self, params: PricingParams, panel: WeeklyPanel, space: SearchSpace, known: list[float]
    ) -> None:
        self._params, self._panel, self._space = params, panel, space
        self._known = list(known)
        self._more: Iterator[float] | None = None

    def after(self, weeks: int) -> float:
        """Loss over the first `weeks` held-out weeks."""
        if len(self._known) < weeks and self._more is None:
            self._known = []
            self._more = rolling_losses(self._params, self._panel, self._space.holdout_weeks)
        while len(self._known) < weeks and self._more is not None:
            self._known.append(next(self._more))
        return self._known[weeks - 1]


def tune_serial(
    panel: WeeklyPanel,
    space: SearchSpace,
    n_trials: int,
    seed: int,
    *,
    progress: Progress = SILENT,
) -> TuningResult:
    """Search in this process.

    Args:
        panel: weekly units and prices.
        space: ranges and held-out weeks.
        n_trials: trials, >= 1; the first one has the default hyperparameters.
        seed: seed of the trials' draws.
        progress: told trials done at each rung.
    """

    def run_batch(first: int, params: list[PricingParams]) -> list[tuple[int, float]]:
        losses = [Losses(p, panel, space, []) for p in params]

        def loss_after(trial: int, weeks: int) -> float:
            loss = losses[trial].after(weeks)
            progress("tune", first + trial + 1, n_trials, loss=loss, weeks=weeks)
            return loss

        return successive_halving(len(params), space, loss_after)

    return search(space, n_trials, seed, run_batch)
