"""Search of pricing hyperparameters on Ray Tune; the same result as in one process.

Ray Tune runs the pre-drawn trials with asynchronous halving (ASHA, Li et al. 2020), which stops
poor ones early; which ones it stops depends on timing. The answer does not: when Tune is done, the
synchronous rule of `promo_ray.pricing.tuning` is applied to the losses that trials reported, and
the driver computes the few that the rule asks for and ASHA had cut.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import orjson
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from promo_ray.config import resolve
from promo_ray.errors import PromoRayError, StopRequestedError
from promo_ray.pricing.demand import rolling_losses
from promo_ray.pricing.panel import WeeklyPanel
from promo_ray.pricing.params import PricingParams
from promo_ray.pricing.tuning import (
    Losses,
    SearchSpace,
    TuningResult,
    search,
    successive_halving,
    tune_serial,
)
from promo_ray.telemetry import SILENT, Progress

logger = logging.getLogger(__name__)

_CPUS_PER_TRIAL = 0.5  # workers ask for as much: one of each fits on a single CPU


def _trial(
    config: dict[str, Any], panel: WeeklyPanel, params: list[PricingParams], weeks: int
) -> None:
    """One trial: reports its losses after every held-out week."""
    losses: list[float] = []
    for loss in rolling_losses(params[config["trial"]], panel, weeks):
        losses.append(loss)
        tune.report(
            {"loss": loss, "weeks": len(losses), "trial": config["trial"], "losses": list(losses)}
        )


class _Watch:
    """What the driver knows of a running search; hears of a wish to stop."""

    def __init__(self, progress: Progress, n_before: int, n_trials: int) -> None:
        self._progress, self._n_trials = progress, n_trials
        self._n_done, self._best = n_before, float("inf")
        self.stop: StopRequestedError | None = None

    def reported(self, loss: float) -> None:
        """A trial reported a loss."""
        self._best = min(self._best, loss)

    def ended(self) -> None:
        """A trial ended."""
        self._n_done = min(self._n_done + 1, self._n_trials)
        try:
            self._progress("tune", self._n_done, self._n_trials, loss=self._best)
        except StopRequestedError as stop:
            self.stop = stop  # raised between steps: here Tune would call the trial failed


# By name of the search. Tune pickles callbacks and revives them when a search goes on: they must
# hold no sink of a process that is gone.
_watches: dict[str, _Watch] = {}


class _Report(tune.Callback):  # type: ignore[misc]
    """Tells the watch of a search about its trials."""

    def __init__(self, name: str) -> None:
        self._name = name

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial reported."""
        _watches[self._name].reported(float(result["loss"]))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ended."""
        _watches[self._name].ended()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune is between trials: here it may be left and later go on."""
        watch = _watches[self._name]
        if watch.stop is not None:
            raise watch.stop


def tune_pricing(
    panel: WeeklyPanel | ray.ObjectRef,
    space: SearchSpace,
    n_trials: int,
    seed: int,
    *,
    storage: str | None = None,
    max_concurrent: int | None = None,
    progress: Progress = SILENT,
) -> TuningResult:
    """Search on the Ray that is already connected; one CPU per trial.

    Args:
        panel: weekly units and prices, or a reference to them in the object store.
        space: ranges and held-out weeks.
        n_trials: trials, >= 1.
        seed: seed of the trials' draws.
        storage: directory or URI for Tune's state, on shared storage for a cluster of several
            nodes; a search of the same input found there goes on. None: a temporary directory.
        max_concurrent: trials at once; as many as CPUs if None.
        progress: told trials done and the least loss.

    Returns:
        What `promo_ray.pricing.tune_serial` returns for the same arguments.

    Raises:
        StopRequestedError: the progress sink asked to stop; what is in `storage` can go on.
    """
    data: WeeklyPanel = ray.get(panel) if isinstance(panel, ray.ObjectRef) else panel
    if ray.available_resources().get("CPU", 0.0) < _CPUS_PER_TRIAL:
        logger.warning("no CPU is free for trials of the price search; it runs in the driver")
        return tune_serial(data, space, n_trials, seed, progress=progress)
    with contextlib.ExitStack() as stack:
        place = storage or stack.enter_context(tempfile.TemporaryDirectory(prefix="tune-"))
        place = place if "://" in place else os.path.abspath(place)

        def run_batch(first: int, params: list[PricingParams]) -> list[tuple[int, float]]:
            watch = _Watch(progress, first, n_trials)
            reported = _run_tune(data, params, space, place, max_concurrent, watch)
            losses = [Losses(p, data, space, reported.get(i, [])) for i, p in enumerate(params)]
            return successive_halving(
                len(params), space, lambda trial, weeks: losses[trial].after(weeks)
            )

        return search(space, n_trials, seed, run_batch)


def _run_tune(
    panel: WeeklyPanel,
    params: list[PricingParams],
    space: SearchSpace,
    place: str,
    max_concurrent: int | None,
    watch: _Watch,
) -> dict[int, list[float]]:
    """Losses by trial that Tune got before it stopped or finished the trial."""
    name = f"pricing-{_fingerprint(panel, params, space)}"
    trainable = tune.with_resources(
        tune.with_parameters(_trial, panel=panel, params=params, weeks=space.holdout_weeks),
        {"cpu": _CPUS_PER_TRIAL},
    )
    param_space = {"trial": tune.grid_search(list(range(len(params))))}
    path = f"{place}/{name}"
    if tune.Tuner.can_restore(path):
        tuner = tune.Tuner.restore(
            path, trainable=trainable, param_space=param_space, resume_errored=True
        )
    else:
        tuner = tune.Tuner(
            trainable,
            param_space=param_space,
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                scheduler=ASHAScheduler(
                    time_attr="weeks",
                    max_t=space.holdout_weeks,
                    grace_period=space.first_weeks,
                    reduction_factor=space.reduction,
                ),
                max_concurrent_trials=max_concurrent,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=place,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=2),
                callbacks=[_Report(name)],
            ),
        )
    _watches[name] = watch
    try:
        # Tune's own handler would swallow Ctrl-C and return as if the search were done
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
        with _quiet():
            results = tuner.fit()
    finally:
        del _watches[name]
    if results.num_errors:
        first = next(iter(results.errors))
        raise PromoRayError(
            f"trials of the price search must run; {results.num_errors} failed: {first}"
        )
    told = [r.metrics for r in results if r.metrics and "trial" in r.metrics]
    return {metrics["trial"]: list(metrics["losses"]) for metrics in told}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Tune's tables, which it prints even at verbosity 0, off standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _fingerprint(panel: WeeklyPanel, params: list[PricingParams], space: SearchSpace) -> str:
    """Name of a search: the same input gives the same name, other input another."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(orjson.dumps([panel.item_ids, panel.category.tolist()]))
    for array in (panel.units, panel.price, panel.is_open):
        digest.update(array.tobytes())
    digest.update(orjson.dumps([resolve(space), [resolve(p) for p in params]]))
    return digest.hexdigest()
