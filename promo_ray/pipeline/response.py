"""Stage response: learn effect and cost of offers from the campaign log, and what proves them.

The model for decisions is fitted on all rows. For proof every user is predicted by models that
never saw that user; the folds and the final fit run side by side on the executor.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from promo_ray.artifacts import PartRef
from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.response_model import RESPONSE_MODEL
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.config import config_class, resolve
from promo_ray.errors import DataError
from promo_ray.evaluation.policy_value import policy_value
from promo_ray.execution import Resident
from promo_ray.pipeline.scoring import design_of, inputs_of, is_money, lists
from promo_ray.pipeline.stage import Context, StageResult, current, finished, skipped
from promo_ray.response.model import PARTS, FoldEstimate, ResponseModel, TrialLog, fit_fold
from promo_ray.response.nuisance import estimate_propensity
from promo_ray.response.trial import folds_of
from promo_ray.seeding import derive


@config_class
class ResponseConfig:
    """How responses are learned.

    Attributes:
        n_folds: folds of users for out-of-fold predictions, >= 2.
    """

    n_folds: Annotated[int, Field(ge=2, le=20)] = 5


def missing(context: Context) -> str:
    """Why the stage cannot run; empty if it can."""
    return "" if context.has(CAMPAIGN_LOG) else "there is no campaign log to learn from"


class _Rows(NamedTuple):
    """Rows of the campaign log of one shard, joined to the profiles of their users."""

    user_ids: list[str]
    x: NDArray[np.float64]
    basket: NDArray[np.float64]
    arm: NDArray[np.int64]
    outcome: NDArray[np.float64]
    cost: NDArray[np.float64]
    propensity: NDArray[np.float64]  # NaN = unknown


class _Source(NamedTuple):
    log: PartRef
    profiles: PartRef
    names: tuple[str, ...]
    offer_ids: tuple[str, ...]
    outcome: str

    def __call__(self) -> _Rows:
        log, profiles = self.log(), self.profiles()
        place = {user: i for i, user in enumerate(profiles["user_id"].to_pylist())}
        users = log["user_id"].to_pylist()
        rows = np.array([place[user] for user in users], dtype=np.int64)
        x, basket = inputs_of(profiles, self.names)
        arms = {None: 0} | {offer: j + 1 for j, offer in enumerate(self.offer_ids)}
        arm = [arms.get(offer, -1) for offer in log["offer_id"].to_pylist()]
        if -1 in arm:
            unknown = log["offer_id"][arm.index(-1)].as_py()
            raise DataError(
                f"offer {unknown!r} must be in the table of offers", where="campaign log"
            )
        return _Rows(
            users,
            x[rows],
            basket[rows],
            np.array(arm, dtype=np.int64),
            _numbers(log[self.outcome]),
            np.nan_to_num(_numbers(log["cost"])),
            _numbers(log["propensity"]),
        )


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values: NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    return values


class _Fitted(NamedTuple):
    model: ResponseModel
    folds: NDArray[np.int64]
    estimate: FoldEstimate  # rows in the order of the log


def run(config: ResponseConfig, context: Context) -> StageResult:
    """Write `response_model`."""
    if why := missing(context):
        return skipped("response", why, context, [RESPONSE_MODEL])
    inputs = context.inputs(CAMPAIGN_LOG, USER_PROFILES)
    if context.is_current(RESPONSE_MODEL, config, inputs):
        return current("response", context, [RESPONSE_MODEL])
    started = time.perf_counter()
    offers = context.store.read(CAMPAIGN_LOG).table("offers")
    log = read_trial(config, context, offers)
    fitted = _fit(config, context, log, offers)
    arrays, document = fitted.model.to_arrays()
    with context.store.write(
        RESPONSE_MODEL, config=resolve(config), seed=context.seed, inputs=inputs
    ) as writer:
        writer.table("offers", offers)
        writer.table("out_of_fold", _out_of_fold(log, fitted))
        writer.tensors("model", arrays)
        writer.json("model", document)
        quality = _quality(log, fitted)
        writer.json("quality", quality)
        writer.metrics = {"heterogeneity": quality["heterogeneity"], **quality["weights"]}
    return finished("response", context, [RESPONSE_MODEL], started)


def read_trial(config: ResponseConfig, context: Context, offers: pa.Table) -> TrialLog:
    """All rows of the log; propensities that the design does not know are estimated."""
    log, profiles = context.store.read(CAMPAIGN_LOG), context.store.read(USER_PROFILES)
    names = tuple(profiles.json("features")["names"])
    ids = tuple(offers["offer_id"].to_pylist())
    outcome = design_of(context)["outcome"]
    pairs = zip(log.parts("campaign_log"), profiles.parts("user_profiles"), strict=True)
    resident: Resident[_Rows] = context.executor.load(
        [_Source(rows, users, names, ids, outcome) for rows, users in pairs]
    )
    parts = resident.map(_itself, progress=context.progress, stage="read log")
    resident.release()
    users, *columns = (
        np.concatenate([np.asarray(c) for c in part]) for part in zip(*parts, strict=True)
    )
    x, basket, arm, outcomes, cost, propensity = columns
    bad = ~np.isfinite(outcomes)
    if bad.any():
        raise DataError(
            f"outcome {outcome!r} must be known in every row; {int(bad.sum())} are not",
            where="campaign log",
        )
    unknown = np.isnan(propensity)
    if unknown.any():
        folds = folds_of(users, len(users), config.n_folds, context.seed)
        guess = estimate_propensity(x, arm, folds, offers.num_rows + 1)
        propensity = np.where(unknown, guess, propensity)
    return TrialLog(users, x, basket, arm, outcomes, cost, propensity)


def _itself(rows: _Rows) -> _Rows:
    return rows


def _fit(config: ResponseConfig, context: Context, log: TrialLog, offers: pa.Table) -> _Fitted:
    folds = folds_of(log.groups, len(log.arm), config.n_folds, context.seed)
    net = is_money(design_of(context))
    # a seed of its own: with the outer one the inner folds would be the outer folds
    seed = derive(context.seed, "response.inner")
    tasks: list[int | None] = [None, *range(config.n_folds)]  # None = the fit on all rows
    resident: Resident[int | None] = context.executor.load(tasks)
    # the first task gives the model, the others a fold each
    found: list[Any] = resident.map(
        _fit_one, log, offers, folds, seed, net, progress=context.progress, stage="response"
    )
    resident.release()
    model, estimates = found[0], found[1:]
    n, m = len(log.arm), offers.num_rows
    whole = FoldEstimate(np.empty((n, m)), np.empty((n, m)), np.empty((n, m + 1)))
    for fold, estimate in enumerate(estimates):
        for column, found in zip(whole, estimate, strict=True):
            column[folds == fold] = found
    return _Fitted(model, folds, whole)


def _fit_one(
    fold: int | None,
    log: TrialLog,
    offers: pa.Table,
    folds: NDArray[np.int64],
    seed: int,
    is_net: bool,
) -> ResponseModel | FoldEstimate:
    if fold is None:
        return ResponseModel.fit(log, offers, seed, is_net=is_net)
    return fit_fold(log, offers, folds, fold, seed, is_net=is_net)


def _out_of_fold(log: TrialLog, fitted: _Fitted) -> pa.Table:
    return pa.table(
        {
            "user_id": pa.array(log.groups.tolist(), pa.string()),
            "fold": pa.array(fitted.folds, pa.int8()),
            "arm": pa.array(log.arm, pa.int32()),
            "outcome": log.outcome,
            "cost": log.cost,
            "propensity": log.propensity,
            "effect": lists(fitted.estimate.effect),
            "expected_cost": lists(fitted.estimate.discount),
            "mean_outcome": lists(fitted.estimate.mean_outcome),
        }
    )


def _quality(log: TrialLog, fitted: _Fitted) -> dict[str, Any]:
    """Weights of the stack, and how well the mean outcome is foretold out of fold."""
    estimate = fitted.estimate
    rows = np.arange(len(log.arm))
    error = log.outcome - estimate.mean_outcome[rows, log.arm]
    spread = float(np.var(log.outcome))
    best = estimate.effect.argmax(axis=1) + 1
    value = policy_value(
        best, log.arm, log.outcome, log.propensity, q_hat=estimate.mean_outcome, groups=log.groups
    )
    return {
        "weights": dict(zip(PARTS, fitted.model.weights.tolist(), strict=True)),
        "heterogeneity": float(1.0 - fitted.model.weights[0]),  # weight off the average effect
        "reason": fitted.model.reason(),
        "outcome_r2": 1.0 - float(np.mean(error**2)) / spread if spread > 0 else 0.0,
        "outcome_mae": float(np.mean(np.abs(error))),
        "best_arm_value": {"value": value.value, "low": value.low, "high": value.high},
        "n": len(log.arm),
    }
