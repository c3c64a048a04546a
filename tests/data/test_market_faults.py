"""Faults of the market's log are found by the checks of `promo_ray.evaluation`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from market_cases import QUARTER, offers, plain
from numpy.typing import NDArray

from promo_ray.data.market.simulator import MarketSimulator
from promo_ray.evaluation import ab_test, policy_value, sample_ratio


def _log(n_users: int = 6000, **settings: Any) -> tuple[MarketSimulator, NDArray[Any], Any]:
    market = plain(n_users, visit_spread=1.0, horizon_days=14, **settings)
    log = market.campaign_log(market.user_ids())
    names = [None, *market.past_offers()["offer_id"].to_pylist()]
    arm = np.array([names.index(o) for o in log["offer_id"].to_pylist()])
    return market, arm, log


def test_lost_users_ring_the_sample_ratio_alarm() -> None:
    for loss, passes in ((0.0, True), (0.2, False)):
        market, arm, _ = _log(loss_rate=loss)
        share = market.config.control_share
        check = sample_ratio([(arm == 0).sum(), (arm > 0).sum()], [share, 1.0 - share])
        assert check.passed == passes


def test_missing_propensities_withhold_the_verdict() -> None:
    for rate, withheld in ((0.0, False), (0.1, True)):
        market, arm, log = _log(missing_rate=rate)
        probs = np.zeros((len(arm), market.past_offers().num_rows + 1))
        probs[:, 0] = 1.0
        propensity = log["propensity"].to_numpy(zero_copy_only=False)
        found = policy_value(probs, arm, log["margin"].to_numpy(), propensity, method="snips")
        assert bool(found.withheld) == withheld


@pytest.mark.parametrize("confounding", [0.0, 1.0])
def test_a_hidden_trait_biases_the_estimate_against_the_truth(confounding: float) -> None:
    market, arm, log = _log(confounding=confounding)
    ids = market.user_ids()
    truth = market.true_effects(ids, market.past_offers(), windows=(14,))
    every = truth.uplift[:, 1:, 0].mean() + 0.05  # the log's margin is before the contact
    found = ab_test(log["margin"].to_numpy(), (arm > 0).astype(int))[1]
    is_covered = found.effect_low <= every <= found.effect_high
    assert is_covered == (confounding == 0.0)


def test_interference_makes_the_comparison_of_arms_miss_the_truth() -> None:
    # Controls hear from their friends, so the arms differ by less than all differ from nobody.
    settings: dict[str, Any] = {"reminder_strength": 1.0, "redeem_rate": 0.99}
    gaps = []
    for strength in (0.0, 2.0):
        market = plain(4000, referral_strength=strength, **settings)
        ids, half = market.user_ids(), np.arange(4000) % 2
        menu = offers({**QUARTER, "depth_rate": 0.0})
        orders = market.replay(ids, menu, half).actual.orders[:, 0]
        by_arm = orders[half == 1].mean() - orders[half == 0].mean()
        every, nobody = (
            market.replay(ids, menu, np.full(4000, a)).actual.orders[:, 0].mean() for a in (1, 0)
        )
        gaps.append(by_arm / (every - nobody))
    assert gaps[0] == pytest.approx(1.0, abs=0.2)
    assert gaps[1] < 0.7
