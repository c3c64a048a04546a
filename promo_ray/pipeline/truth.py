"""What is known only of a simulated shop: the true worth of policies, and the oracle's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.allocation import AllocationProblem, solve
from promo_ray.artifacts.users import USERS
from promo_ray.config import parse
from promo_ray.data.simulate import Shop
from promo_ray.pipeline.ingest import IngestConfig
from promo_ray.pipeline.stage import Context

Floats = NDArray[np.float64]


class Truth(NamedTuple):
    """True effects of every user, in the order of shards.

    Attributes:
        user_ids: `(n,)` str.
        value: `(n, m)` incremental margin net of contact cost, currency units.
        cost: `(n, m)` expected discount plus contact cost.
    """

    user_ids: list[str]
    value: Floats
    cost: Floats


def shop_of(context: Context) -> Shop | None:
    """The simulated shop of a run; None for real data."""
    config = context.store.read(USERS).manifest.config
    return parse(IngestConfig, config, where="users").shop


def _effects(users: pa.Table, shop: Shop, offers: pa.Table) -> Truth:
    ids = users["user_id"].to_pylist()
    found = shop.true_effects(ids, offers)
    return Truth(ids, found.value, found.cost)


def true_effects(context: Context, shop: Shop, offers: pa.Table) -> Truth:
    """True effects of `offers` on every user of the run."""
    resident = context.executor.load(context.store.read(USERS).parts("users"))
    found = resident.map(_effects, shop, offers, progress=context.progress, stage="truth")
    resident.release()
    ids = [i for t in found for i in t.user_ids]
    value = np.concatenate([t.value for t in found])
    return Truth(ids, value, np.concatenate([t.cost for t in found]))


def during(truth: Truth, limits: Mapping[str, Any]) -> Truth:
    """Effects of the menu's offers in their windows: `limits["share"]` of each."""
    if limits["share"] is None:
        return truth
    contact = limits["offers"]["contact_cost"].to_numpy()
    value = limits["share"] * (truth.value + contact) - contact
    return truth._replace(value=value, cost=limits["share"] * (truth.cost - contact) + contact)


def worth(truth: Truth, user_ids: list[str], arms: NDArray[np.int64]) -> float:
    """True mean gain per user of arms (0 = none, j + 1 = offer j) of the named users."""
    place = {user: i for i, user in enumerate(truth.user_ids)}
    rows = np.array([place[user] for user in user_ids])
    value = truth.value[rows, np.maximum(arms - 1, 0)]
    return float(np.where(arms > 0, value, 0.0).mean())


def spend(truth: Truth, user_ids: list[str], arms: NDArray[np.int64]) -> float:
    """True mean cost per user of arms, discounts and contacts; see `worth`."""
    return worth(truth._replace(value=truth.cost), user_ids, arms)


def oracle(
    truth: Truth, limits: Mapping[str, Any], capacity: Sequence[float] | None, seed: int
) -> float:
    """Mean gain per user of the best allocation by true effects within the same limits."""
    costs = np.stack([truth.cost, np.ones_like(truth.cost)])[: len(limits["budgets"])]
    problem = AllocationProblem(
        value=truth.value.astype(np.float32),
        costs=costs.astype(np.float32),
        budgets=np.array(limits["budgets"]),
        capacity=None if capacity is None else np.array(capacity, dtype=np.float64),
    )
    choice = solve(problem, seed=seed).choice
    return worth(truth, truth.user_ids, choice.astype(np.int64) + 1)
