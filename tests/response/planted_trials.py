"""Small trials with planted effects, drawn afresh from a seed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.response.model import TrialLog


class Planted(NamedTuple):
    x: NDArray[np.float64]
    arm: NDArray[np.int64]
    outcome: NDArray[np.float64]
    propensity: NDArray[np.float64]
    effect: NDArray[np.float64]  # (n, n_arms - 1)


def trial(n: int, seed: int, *, slope: float = 1.0, confounding: float = 0.0) -> Planted:
    """Two offers: effects 1 + slope * x0 and 0.5; assignment may lean on x1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    lean = np.stack([0 * x[:, 1], confounding * x[:, 1], -confounding * x[:, 1]], axis=1)
    probs = np.exp(lean) / np.exp(lean).sum(axis=1, keepdims=True)
    arm = (rng.random(n)[:, None] > probs.cumsum(axis=1)[:, :-1]).sum(axis=1)
    effect = np.stack([1.0 + slope * x[:, 0], np.full(n, 0.5)], axis=1)
    base = 5.0 + 2.0 * x[:, 1]
    own = np.column_stack([np.zeros(n), effect])[np.arange(n), arm]
    outcome = base + own + rng.normal(size=n)
    return Planted(x, arm, outcome, probs[np.arange(n), arm], effect)


def offers(*rows: dict[str, Any]) -> pa.Table:
    """Table of offer terms; what a row leaves out is null."""
    base = dict.fromkeys(OFFER_TERMS.names)
    filled = [
        base | {"offer_id": f"o{i}", "contact_cost": 0.1, "label": "offer"} | row
        for i, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(filled, schema=OFFER_TERMS)


DEPTHS = offers(
    {"mechanic": "percent_off", "depth_rate": 0.1},
    {"mechanic": "percent_off", "depth_rate": 0.3},
    {"mechanic": "amount_off", "amount": 10.0},
)


class Campaign(NamedTuple):
    log: TrialLog
    gross: NDArray[np.float64]  # (n, 3) true effect before discount
    discount: NDArray[np.float64]  # (n, 3) true expected discount


def campaign(n: int, seed: int) -> Campaign:
    """Buyers with x0 > 0 react to the saving; half of all buyers redeem."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    basket = np.exp(3.8 + 0.3 * x[:, 2])
    saving = np.stack([np.full(n, 0.1), np.full(n, 0.3), 10.0 / basket], axis=1)
    lift = np.where(x[:, :1] > 0, 1.0, 0.1) * (1.0 - np.exp(-saving / 0.1))
    gross, discount = 20.0 * lift, 0.5 * saving * basket[:, None]
    arm = rng.choice(4, size=n, p=[0.4, 0.2, 0.2, 0.2])
    at = np.arange(n), np.maximum(arm - 1, 0)
    redeemed = (rng.random(n) < 0.5) & (arm > 0)
    cost = np.where(redeemed, saving[at] * basket, 0.0)
    value = 20.0 + 5.0 * x[:, 1] + np.where(arm > 0, gross[at], 0.0) + 10.0 * rng.normal(size=n)
    log = TrialLog(
        groups=np.array([f"u{i}" for i in range(n)]),
        x=x,
        basket=basket,
        arm=arm,
        outcome=value - cost,
        cost=cost,
        propensity=np.array([0.4, 0.2, 0.2, 0.2])[arm],
    )
    return Campaign(log, gross, discount)
