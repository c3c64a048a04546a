"""Policies that the evaluation compares, as arms of the users of the campaign log.

All of them are made from out-of-fold predictions: what decides about a user never saw that user.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.allocation import AllocationProblem, solve
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.artifacts.users import USERS
from promo_ray.pipeline.scoring import Limit, described, eligible
from promo_ray.pipeline.stage import Context
from promo_ray.seeding import keys_of, uniforms

Arms = NDArray[np.int64]  # (n,) 0 = no offer, j + 1 = tried offer j
Floats = NDArray[np.float64]


class Log(NamedTuple):
    """Rows of the campaign log with out-of-fold predictions; n rows, m tried offers.

    Attributes:
        user_ids: `(n,)` str.
        fold: `(n,)` fold that predicted the row.
        arm: `(n,)` arm in the log.
        reward: `(n,)` outcome, net of contact cost if it is money.
        given: `(n,)` discount given in the log, currency units.
        propensity: `(n,)` of the arm.
        value: `(n, m)` predicted effect, net of contact cost if it is money.
        cost: `(n, m)` predicted discount plus contact cost, currency units.
        q_hat: `(n, m + 1)` predicted reward of every arm.
    """

    user_ids: list[str]
    fold: NDArray[np.int64]
    arm: Arms
    reward: Floats
    given: Floats
    propensity: Floats
    value: Floats
    cost: Floats
    q_hat: Floats


def read_log(table: pa.Table, offers: pa.Table, *, is_money: bool) -> Log:
    """Log from table `out_of_fold` of a response model and the offers tried."""
    n, m = table.num_rows, offers.num_rows
    contact = offers["contact_cost"].to_numpy()
    taken_off = np.concatenate([[0.0], contact if is_money else np.zeros(m)])
    arm = table["arm"].to_numpy().astype(np.int64)
    return Log(
        user_ids=table["user_id"].to_pylist(),
        fold=table["fold"].to_numpy().astype(np.int64),
        arm=arm,
        reward=table["outcome"].to_numpy() - taken_off[arm],
        given=table["cost"].to_numpy(),
        propensity=table["propensity"].to_numpy(),
        value=_matrix(table, "effect", n, m) - taken_off[1:],
        cost=_matrix(table, "expected_cost", n, m) + contact,
        q_hat=_matrix(table, "mean_outcome", n, m + 1) - taken_off,
    )


def open_to(
    context: Context,
    variants: tuple[Limit, ...],
    place: list[int],
    n_tried: int,
    log_users: list[str],
) -> NDArray[np.bool_] | None:
    """`(rows of the log, tried offers)` bool whom the menu's offers are for; None = everyone."""
    if not variants:
        return None
    profiles, users = context.store.read(USER_PROFILES), context.store.read(USERS)
    pairs = zip(profiles.parts("user_profiles"), users.parts("users"), strict=True)
    table = pa.concat_tables([described(p(), u()) for p, u in pairs])
    row_of = {user: i for i, user in enumerate(table["user_id"].to_pylist())}
    rows = np.array([row_of[user] for user in log_users], dtype=np.int64)
    found = np.zeros((len(rows), n_tried), dtype=bool)
    for own, j in zip(eligible(variants, table).T, place, strict=True):
        if j >= 0:
            found[:, j] |= own[rows]
    return found


def _matrix(table: pa.Table, name: str, n: int, width: int) -> Floats:
    flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float64).reshape(n, width)


def best_single(log: Log, menu: NDArray[np.int64]) -> Arms:
    """Arm of the offer that is best on average, chosen in each fold by the other folds' models."""
    arms = np.zeros(len(log.arm), dtype=np.int64)
    for fold in np.unique(log.fold):
        inside = log.fold == fold
        arms[inside] = 1 + menu[log.value[inside][:, menu].mean(axis=0).argmax()]
    return arms


def allocated(log: Log, menu: NDArray[np.int64], limits: dict[str, Any], seed: int) -> Arms:
    """Best allocation of the menu within the budgets, scaled to the rows of the log."""
    scale = len(log.arm) / limits["n_users"]
    costs = np.stack([log.cost[:, menu], np.ones((len(log.arm), len(menu)))])
    budgets = np.array(limits["budgets"]) * scale
    capacity, is_open = limits["capacity"], limits["is_open"]
    value = log.value if is_open is None else np.where(is_open, log.value, -np.inf)
    problem = AllocationProblem(
        value=value[:, menu].astype(np.float32),
        costs=costs[: len(budgets)].astype(np.float32),
        budgets=budgets,
        capacity=None if capacity is None else np.array(capacity)[menu] * scale,
    )
    choice = solve(problem, seed=seed).choice
    return np.where(choice >= 0, 1 + menu[np.maximum(choice, 0)], 0)


def rationed(log: Log, arms: Arms, order: Floats, limits: dict[str, Any]) -> Arms:
    """The given arms for the users with the largest `order`, as long as the first budget lasts."""
    rows = np.arange(len(arms))
    cost = np.where(arms > 0, log.cost[rows, np.maximum(arms - 1, 0)], 0.0)
    by_order = np.argsort(-order, kind="stable")
    budget = limits["budgets"][0] * len(arms) / limits["n_users"]
    fits = np.cumsum(cost[by_order]) <= budget
    kept = np.zeros_like(arms)
    kept[by_order[fits]] = arms[by_order[fits]]
    return kept


def lottery(log: Log, seed: int) -> Floats:
    """A random order of users that belongs to their ids."""
    return uniforms(seed, "evaluate.lottery", keys_of(log.user_ids))[:, 0]


def all_policies(
    log: Log, menu: NDArray[np.int64], limits: dict[str, Any], seed: int
) -> dict[str, Arms]:
    """Every policy by name; see the report for what the names mean."""
    single = best_single(log, menu)
    return {
        "policy": allocated(log, menu, limits, seed),
        "best_single_to_all": single,
        "best_single_in_budget": rationed(log, single, lottery(log, seed), limits),
        "response_targeting": rationed(log, single, log.q_hat[:, 0], limits),
        "none": np.zeros(len(log.arm), dtype=np.int64),
    }
