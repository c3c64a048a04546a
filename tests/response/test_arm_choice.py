from __future__ import annotations

import numpy as np
import pytest
from planted_trials import trial

from promo_ray.errors import ConfigError, DataError
from promo_ray.response.arm_choice import ArmRule, choose_rule
from promo_ray.response.uplift_model import UpliftModel


def _drawn(seed: int, better: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noisy predictions and scores of three arms; arm 2 is `better` than arm 1 for one in four."""
    rng = np.random.default_rng(seed)
    gains = rng.random(n) < 0.25
    truth = np.column_stack([np.zeros(n), np.ones(n), np.where(gains, 1.0 + better, 0.7)])
    guess = truth + np.array([0.0, 1.0, 1.0]) * 0.4 * rng.normal(size=(n, 3))
    scores = truth + 5.0 * rng.normal(size=(n, 3))
    return truth, guess, scores


def _rule(guess: np.ndarray, scores: np.ndarray, cost: np.ndarray | None = None) -> ArmRule:
    n = len(guess)
    return choose_rule(
        guess, scores, np.ones(n), np.arange(n), np.zeros(3) if cost is None else cost
    )


def test_best_single_arm_stays_where_nothing_is_gained() -> None:
    left = 0
    for seed in range(200):
        _, guess, scores = _drawn(seed, -0.3)
        rule = _rule(guess, scores)
        left += rule.base == 1 and bool((rule.arms(guess) != 1).any())
        assert (guess.argmax(axis=1) == 2).mean() > 0.25  # what the largest score would do
    assert left <= 10  # 5 % of 200


def test_it_is_left_where_another_arm_is_truly_better() -> None:
    for seed in range(20):
        truth, guess, scores = _drawn(seed, 0.8, 20_000)
        rule = _rule(guess, scores)
        found = truth[np.arange(len(truth)), rule.arms(guess)].mean()
        assert found > truth[:, 1].mean() + 0.04  # never worse, though leaving is rationed
        assert 0 < rule.low < rule.gain
        assert 0.1 < rule.left < 0.6
        assert "gain" in rule.reason


def test_costs_move_the_base() -> None:
    _, guess, scores = _drawn(0, 0.8)
    rule = _rule(guess, scores, np.array([0.0, 5.0, 5.0]))
    assert rule.base == 0
    assert (rule.arms(guess) == 0).all()
    assert rule.reason.startswith("arm 0 for all")


@pytest.mark.parametrize("learner", ["linear_dr", "auto"])
def test_policy_of_a_model_gains_on_planted_effects(learner: str) -> None:
    data, fresh = trial(3000, 20), trial(2000, 21)  # arm 1 brings 1 + x0, arm 2 brings 0.5
    model = UpliftModel(learner, n_folds=2)
    model.fit(data.x, data.arm, data.outcome, data.propensity)
    arm = model.policy(fresh.x)
    effect = np.column_stack([np.zeros(2000), fresh.effect])
    gain = effect[np.arange(2000), arm].mean() - effect[:, 1].mean()
    best = effect.max(axis=1).mean() - effect[:, 1].mean()
    assert gain > 0.7 * best
    with pytest.raises(ConfigError, match="level"):
        model.rule(level=0.0)
    with pytest.raises(DataError, match="cost"):
        model.rule(cost=[0.0])
