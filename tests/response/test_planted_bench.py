from __future__ import annotations

import numpy as np
import pytest

from promo_ray.bench.uplift_planted import BASE_RATE, KINDS, planted, true_gain
from promo_ray.bench.uplift_policies import CONTACT, MARGIN, profit
from promo_ray.bench.uplift_trials import Contrast


def _source(n: int) -> Contrast:
    x = np.random.default_rng(0).normal(size=(n, 12))
    zeros = np.zeros(n, dtype=np.int64)
    return Contrast("drawn: none", x, zeros, np.zeros(n), np.full(n, 0.5), zeros)


@pytest.mark.parametrize("kind", KINDS)
def test_planted_outcomes_have_the_effect_that_they_claim(kind: str) -> None:
    own = planted(_source(200_000), kind, 1)
    y, arm = own.trial.outcome, own.trial.arm
    assert y[arm == 0].mean() == pytest.approx(BASE_RATE, abs=0.003)
    for part in (own.effect > np.median(own.effect), own.effect <= np.median(own.effect)):
        found = y[part & (arm == 1)].mean() - y[part & (arm == 0)].mean()
        assert found == pytest.approx(own.effect[part].mean(), abs=0.006)
    assert (own.effect < 0).any() == (kind != "flat")
    assert planted(_source(500), kind, 1).effect.tobytes() == (
        planted(_source(500), kind, 1).effect.tobytes()
    )


def test_the_oracle_has_all_and_chance_has_nothing() -> None:
    effect = np.random.default_rng(1).normal(size=50_000)
    assert true_gain(effect, effect) == pytest.approx((1.0, 1.0))
    noise = true_gain(np.random.default_rng(2).normal(size=50_000), effect)
    assert noise == pytest.approx((0.0, 0.0), abs=0.03)
    assert true_gain(-effect, effect) == pytest.approx((-1.0, -1.0), abs=0.03)
    assert true_gain(np.ones(50_000), effect).area == pytest.approx(0.0, abs=1e-12)


def test_profit_counts_margin_and_contacts_per_head() -> None:
    arm = np.array([1, 1, 0, 0] * 2)
    bought = np.array([1, 0, 0, 0] * 2, dtype=float)
    own = _source(8)._replace(arm=arm, outcome=bought)
    everyone = profit(np.ones(8, dtype=bool), own, np.ones(8, dtype=bool))
    assert everyone == pytest.approx(1000 * (MARGIN * 0.5 - CONTACT))
    assert profit(np.zeros(8, dtype=bool), own, np.ones(8, dtype=bool)) == 0.0
    assert np.isnan(profit(own.arm == 1, own, np.ones(8, dtype=bool)))
