from __future__ import annotations

import numpy as np
import pytest

from promo_ray.errors import ConfigError, DataError
from promo_ray.evaluation.ab_windows import effects_over_time, window_outcomes


def test_windows_start_at_each_user_and_returns_follow_their_purchase() -> None:
    found = window_outcomes(
        exposed_at=[0.0, 10.0, 80.0],
        event_user=[0, 0, 0, 1, 1, 2, 0],
        event_at=[0.0, 6.9, 7.0, 9.0, 12.0, 85.0, 40.0],
        bought_at=[0.0, 6.9, 7.0, 9.0, 12.0, 85.0, 6.9],
        amount=[1.0, 2.0, 4.0, 100.0, 8.0, 16.0, -2.0],  # the last undoes the purchase of day 6.9
        windows=(7.0, 30.0),
        analyzed_at=90.0,
    )
    assert found.amount.tolist() == [[1.0, 5.0], [8.0, 8.0], [16.0, 16.0]]
    assert found.is_mature.tolist() == [[True, True], [True, True], [True, False]]
    early = window_outcomes([0.0], [0], [5.0], [3.0], windows=(7.0,), analyzed_at=4.0)
    assert early.amount.tolist() == [[0.0]]
    assert not early.is_mature.any()
    late = window_outcomes(
        [0.0], [0], [5.0], [3.0], windows=(7.0,), analyzed_at=10.0, return_days=14
    )
    assert not late.is_mature.any()


def _shop(seed: int, pulled: float, n: int = 20_000) -> tuple[np.ndarray, ...]:
    """Buyers of whom the promotion adds 0.1; a share of them would have come in weeks 2 to 6."""
    rng = np.random.default_rng(seed)
    arm, start = rng.integers(0, 2, n), rng.uniform(0, 60, n)
    buys_late = rng.random(n) < 0.4
    extra = rng.random(n) < 0.1
    is_pulled = extra & (rng.random(n) < pulled)
    promo = (arm == 1) & extra
    base = buys_late & ~(promo & is_pulled) | (is_pulled & (arm == 0))
    user = np.concatenate([np.flatnonzero(promo), np.flatnonzero(base)])
    lag = np.concatenate([rng.uniform(0, 7, promo.sum()), rng.uniform(8, 42, base.sum())])
    return arm, start, user, start[user] + lag, np.full(len(user), 10.0)


def test_pull_forward_is_seen_and_taken_off() -> None:
    arm, start, user, at, amount = _shop(0, pulled=0.8)
    outcomes = window_outcomes(start, user, at, amount, windows=(7.0, 60.0), analyzed_at=100.0)
    found = effects_over_time(outcomes, arm)
    short, net = found.effects[0][1], found.effects[1][1]
    assert short.effect_low <= 1.0 <= short.effect_high  # naive: 0.1 purchases of 10
    assert net.effect < 0.6
    assert found.later[1].verdict == "worse"
    assert found.kept_share[0] < 0.6
    assert found.mature_share == pytest.approx([1.0, 2 / 3], abs=0.02)


def test_nothing_pulled_nothing_taken_off() -> None:
    arm, start, user, at, amount = _shop(1, pulled=0.0)
    outcomes = window_outcomes(start, user, at, amount, windows=(7.0, 60.0), analyzed_at=130.0)
    found = effects_over_time(outcomes, arm, expected=[1, 1])
    assert found.later[1].verdict == "not shown"
    assert found.effects[1][1].effect_low <= 1.0 <= found.effects[1][1].effect_high


def test_late_starters_do_not_look_like_non_buyers() -> None:
    arm, start, user, at, amount = _shop(2, pulled=0.0)
    outcomes = window_outcomes(start, user, at, amount, windows=(60.0,), analyzed_at=80.0)
    level = effects_over_time(outcomes, arm).effects[0][0].mean
    assert level == pytest.approx(4.0, abs=0.15)
    assert outcomes.amount[arm == 0].mean() < 3.7


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="windows"):
        window_outcomes([0.0], [0], [1.0], [1.0], windows=(7.0, 7.0), analyzed_at=9.0)
    with pytest.raises(DataError, match="bought_at"):
        window_outcomes([0.0], [0], [1.0], [1.0], analyzed_at=9.0, bought_at=[2.0])
    with pytest.raises(DataError, match="event_user"):
        window_outcomes([0.0], [1], [1.0], [1.0], analyzed_at=9.0)
