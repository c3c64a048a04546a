from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from promo_ray.errors import ConfigError, DataError
from promo_ray.evaluation.policy_value import (
    METHODS,
    clustered_error,
    compare_policies,
    policy_value,
)

ACTION = np.array([0, 1, 2, 1])
REWARD = np.array([1.0, 2.0, 3.0, 4.0])
CHANCE = np.array([0.5, 0.25, 0.25, 0.5])
POLICY = np.array([1, 1, 2, 0])


def test_values_follow_their_formulas() -> None:
    q = np.arange(12, dtype=float).reshape(4, 3)
    weight = np.array([0.0, 4.0, 4.0, 0.0])
    chosen = q[np.arange(4), POLICY]
    gap = REWARD - q[np.arange(4), ACTION]
    want = {
        "ips": (weight * REWARD).mean(),
        "snips": (weight * REWARD).sum() / weight.sum(),
        "dm": chosen.mean(),
        "dr": (chosen + weight * gap).mean(),
        "sndr": chosen.mean() + (weight * gap).sum() / weight.sum(),
    }
    for method in want:
        found = policy_value(POLICY, ACTION, REWARD, CHANCE, q_hat=q, method=method)
        assert found.value == pytest.approx(want[method]), method
        assert found.method == method
        assert found.n == 4
        assert found.ess == pytest.approx(2.0)
        assert found.max_weight == 4.0


def test_arms_and_probabilities_say_the_same() -> None:
    as_probs = np.eye(3)[POLICY]
    q = np.zeros((4, 3))
    assert policy_value(POLICY, ACTION, REWARD, CHANCE, q_hat=q) == policy_value(
        as_probs, ACTION, REWARD, CHANCE, q_hat=q
    )


def test_self_normalized_value_moves_with_the_rewards() -> None:
    one = policy_value(POLICY, ACTION, REWARD, CHANCE, method="snips")
    two = policy_value(POLICY, ACTION, REWARD + 100.0, CHANCE, method="snips")
    assert two.value == pytest.approx(one.value + 100.0)
    assert two.se == pytest.approx(one.se)


def test_comparison_is_the_paired_difference() -> None:
    rng = np.random.default_rng(0)
    n = 400
    action, chance = rng.integers(0, 3, n), np.full(n, 1 / 3)
    reward, q = rng.normal(size=n) + action, rng.normal(size=(n, 3))
    a, b = rng.integers(0, 3, n), rng.integers(0, 3, n)
    for method in METHODS:
        found = compare_policies(a, b, action, reward, chance, q_hat=q, method=method)
        one = policy_value(a, action, reward, chance, q_hat=q, method=method)
        two = policy_value(b, action, reward, chance, q_hat=q, method=method)
        if method == "auto":  # may be drawn into the interval
            assert abs(found.value - one.value + two.value) < 0.5 * found.se
        else:
            assert found.value == pytest.approx(one.value - two.value)
    same = compare_policies(a, a, action, reward, chance, q_hat=q)
    assert (same.value, same.se, same.ess) == (0.0, 0.0, 0.0)


def test_repeated_rows_of_a_user_count_once() -> None:
    rng = np.random.default_rng(1)
    n = 500
    action, reward = rng.integers(0, 2, n), rng.normal(size=n)
    once = policy_value(np.ones(n, int), action, reward, np.full(n, 0.5), method="ips")
    users = np.repeat(np.arange(n), 4)
    repeated = policy_value(
        np.ones(4 * n, int),
        np.repeat(action, 4),
        np.repeat(reward, 4),
        np.full(4 * n, 0.5),
        method="ips",
        groups=users,
    )
    assert repeated.value == pytest.approx(once.value)
    assert repeated.se == pytest.approx(once.se)


def _logs(n_logs: int, n: int, seed: int) -> dict[str, np.ndarray]:
    """Logs of one context each row, uneven logging, a policy that leans the other way."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_logs, n))
    up = 1 / (1 + np.exp(-x))
    chance = np.stack([0.8 - 0.5 * up, 0.1 + 0.25 * up, 0.1 + 0.25 * up], axis=2)
    action = (rng.random((n_logs, n))[..., None] > chance.cumsum(axis=2)[..., :-1]).sum(axis=2)
    mean = np.stack([np.exp(0.3 * x), 1.0 + 0.5 * x, np.full_like(x, 0.8)], axis=2)
    own = np.take_along_axis(mean, action[..., None], axis=2)[..., 0]
    reward = own * rng.exponential(size=x.shape)
    taken = np.take_along_axis(chance, action[..., None], axis=2)[..., 0]
    return {"x": x, "action": action, "reward": reward, "chance": taken, "mean": mean}


@pytest.mark.parametrize("method", ["dr", "sndr", "ips", "snips"])
def test_estimates_are_unbiased_and_intervals_cover(method: str) -> None:
    logs = _logs(400, 800, 3)
    policy = np.where(logs["x"] > 0, 1, 2)
    big = np.random.default_rng(9).normal(size=400_000)
    truth = np.where(big > 0, 1.0 + 0.5 * big, 0.8).mean()
    found = []
    for i in range(400):
        q = np.stack([np.ones(800), 1.0 + 0.3 * logs["x"][i], np.ones(800)], axis=1)  # rough
        found.append(
            policy_value(
                policy[i], logs["action"][i], logs["reward"][i], logs["chance"][i],
                q_hat=q, method=method,
            )
        )  # fmt: skip
    values = np.array([f.value for f in found])
    error = values.std() / 20
    assert abs(values.mean() - truth) < 3.5 * error
    assert np.mean([f.se for f in found]) == pytest.approx(values.std(), rel=0.1)
    covered = np.mean([f.low <= truth <= f.high for f in found])
    assert 0.92 <= covered <= 0.98


def test_outcome_model_narrows_the_interval() -> None:
    rng = np.random.default_rng(4)
    n = 3000
    x, action = rng.normal(size=(n, 1)), rng.integers(0, 2, n)
    reward = 5.0 * x[:, 0] + action + rng.normal(size=n)
    args = (np.ones(n, int), action, reward, np.full(n, 0.5))
    widths = [
        policy_value(*args, method="ips").se,
        policy_value(*args).se,
        policy_value(*args, x=x).se,
    ]
    assert widths[2] < 0.8 * widths[1] < 0.9 * widths[0]
    assert widths[2] < 1.1 * (26.0 / n) ** 0.5  # what knowing every outcome would leave
    assert policy_value(*args, x=x).value == pytest.approx(1.0 + 5.0 * x.mean(), abs=0.15)


def test_clustered_error_without_clusters_is_the_usual_one() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0])
    se, n_groups = clustered_error(values - values.mean(), np.arange(4))
    assert n_groups == 4
    assert se == pytest.approx(values.std(ddof=1) / 2.0)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"policy_probs": [[0.5, 0.6, 0.0]] * 4}, "policy_probs"),
        ({"policy_probs": [[0.5, 0.5, np.nan]] * 4}, "policy_probs"),
        ({"policy_probs": [[0.5, 0.5]] * 4}, "action"),
        ({"action": [0, 1, -2, 1]}, "action"),
        ({"action": [0, 1, 2]}, "action"),
        ({"reward": [1.0, 2.0, np.nan, 0.0]}, "reward"),
        ({"reward": [1.0]}, "reward"),
        ({"propensity": [0.5, 0.0, 0.5, 0.5]}, "propensity"),
        ({"propensity": [0.5, 1.1, 0.5, 0.5]}, "propensity"),
        ({"q_hat": np.zeros((4, 2))}, "q_hat"),
        ({"q_hat": np.zeros((3, 3))}, "q_hat"),
        ({"x": np.zeros((3, 1))}, "x"),
        ({"groups": [1, 2]}, "groups"),
    ],
)
def test_bad_input_names_its_argument(change: dict[str, Any], where: str) -> None:
    good = {
        "policy_probs": np.eye(3)[POLICY],
        "action": ACTION,
        "reward": REWARD,
        "propensity": CHANCE,
    }
    with pytest.raises(DataError) as caught:
        policy_value(**(good | change))
    assert caught.value.where == where


def test_unknown_method_is_refused() -> None:
    with pytest.raises(ConfigError, match="method must be one of"):
        policy_value(POLICY, ACTION, REWARD, CHANCE, method="magic")
