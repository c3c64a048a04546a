"""What the response stage is worth on the simulated shop, where the truth is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from promo_ray.data.simulate import Shop
from promo_ray.evaluation.policy_value import PolicyEstimate, compare_policies
from promo_ray.profiles.features import Features, feature_matrix
from promo_ray.profiles.price_sensitivity import PriceSensitivity, price_sensitivity
from promo_ray.profiles.user_table import user_table
from promo_ray.response.model import FoldEstimate, ResponseModel, TrialLog, fit_fold
from promo_ray.response.trial import folds_of

Floats = NDArray[np.float64]


class Proof(NamedTuple):
    share: float  # of the oracle's true gain under the same budget
    single: float  # the best single offer, to users drawn by lot until the budget is spent
    response: float  # the best single offer, to the users with the largest expected outcome
    truth: float  # true gain of the out-of-fold policy, per user
    estimate: PolicyEstimate


def _log(shop: Shop) -> TrialLog:
    ids = shop.user_ids()
    end = datetime.fromisoformat(shop.start).replace(tzinfo=UTC) + timedelta(days=shop.n_days)
    table = user_table(shop.events(ids), shop.users(ids), shop.catalog(), end)
    prices, features = PriceSensitivity(), Features()
    model = prices.update(prices.init(0), prices.partial(table, prices.init(0)))
    table = table.append_column("price_sensitivity", price_sensitivity(table, model))
    spec = features.update(None, features.partial(table, None))
    log = shop.campaign_log(ids)
    place = {name: j + 1 for j, name in enumerate(shop.past_offers()["offer_id"].to_pylist())}
    return TrialLog(
        groups=np.array(ids),
        x=feature_matrix(table, spec)[1],
        basket=table["basket_median"].to_numpy(),
        arm=np.array([place.get(o, 0) for o in log["offer_id"].to_pylist()]),
        outcome=log["margin"].to_numpy(),
        cost=log["cost"].to_numpy(),
        propensity=log["propensity"].to_numpy(),
    )


def _allocate(value: Floats, cost: Floats, budget: float) -> NDArray[np.int64]:
    """Arms of the best allocation, by bisection on the price of the budget."""
    n = len(value)
    values, costs = np.column_stack([np.zeros(n), value]), np.column_stack([np.zeros(n), cost])
    low, high = 0.0, 1e3
    for _ in range(50):
        price = (low + high) / 2
        arms = (values - price * costs).argmax(axis=1)
        over = costs[np.arange(n), arms].sum() > budget
        low, high = (price, high) if over else (low, price)
    return (values - high * costs).argmax(axis=1)


def _within(order: Floats, cost: Floats, budget: float) -> NDArray[np.bool_]:
    by_order = np.argsort(-order)
    inside = np.zeros(len(order), dtype=bool)
    inside[by_order[np.cumsum(cost[by_order]) <= budget]] = True
    return inside


def _prove(seed: int, n_users: int, *, in_sample: bool) -> Proof:
    shop = Shop(seed=seed, n_users=n_users)
    log, offers = _log(shop), shop.past_offers()
    contact = offers["contact_cost"].to_numpy()
    true = shop.true_effects(shop.user_ids(), offers)
    folds = folds_of(log.groups, n_users, 5, seed)
    m = offers.num_rows
    found = FoldEstimate(*(np.empty((n_users, k)) for k in (m, m, m + 1)))
    for fold in range(5):
        parts = fit_fold(log, offers, folds, fold, seed)
        for column, part in zip(found, parts, strict=True):
            column[folds == fold] = part
    best = int(true.value.mean(axis=0).argmax())
    budget = 0.3 * true.cost[:, best].sum()
    oracle = _gain(true.value, _allocate(true.value, true.cost, budget))
    arms = _allocate(found.effect - contact, found.discount + contact, budget)
    served = arms
    if in_sample:
        whole = ResponseModel.fit(log, offers, seed).effects(log.x, log.basket, offers)
        served = _allocate(whole.effect - contact, whole.discount + contact, budget)
    lot = np.random.default_rng(seed).random(n_users)
    taken_off = np.concatenate([[0.0], contact])
    single, response = (
        true.value[_within(order, true.cost[:, best], budget), best].sum()
        for order in (lot, found.mean_outcome[:, 0])
    )
    estimate = compare_policies(
        arms, np.zeros(n_users, dtype=int), log.arm, log.outcome - taken_off[log.arm],
        log.propensity, q_hat=found.mean_outcome - taken_off, groups=log.groups,
    )  # fmt: skip
    return Proof(
        _gain(true.value, served) / oracle,
        single / oracle,
        response / oracle,
        _gain(true.value, arms) / n_users,
        estimate,
    )


def _gain(value: Floats, arms: NDArray[np.int64]) -> float:
    return float(np.where(arms > 0, value[np.arange(len(arms)), np.maximum(arms - 1, 0)], 0).sum())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_allocation_reaches_most_of_what_an_oracle_would_earn(seed: int) -> None:
    proof = _prove(seed, 10_000, in_sample=True)
    assert proof.share >= 0.6
    assert proof.share > proof.single + 0.2
    assert proof.share > proof.response + 0.2


@pytest.mark.slow
def test_interval_of_the_policy_value_covers_the_truth() -> None:
    proofs = [_prove(seed, 4000, in_sample=False) for seed in range(20)]
    covered = [p.estimate.low <= p.truth <= p.estimate.high for p in proofs]
    assert sum(covered) >= 16  # exact 95 % intervals give fewer once in 400 times
    z = np.array([(p.estimate.value - p.truth) / p.estimate.se for p in proofs])
    assert abs(z.mean()) < 3 / 20**0.5
    assert 0.6 < z.std() < 1.4
