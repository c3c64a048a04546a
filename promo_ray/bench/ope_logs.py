"""Logs with planted truth for the benchmark of off-policy evaluation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.evaluation import gain_curve
from promo_ray.response.orthogonal import aipw_scores
from promo_ray.seeding import stream

Floats = NDArray[np.float64]


class Setting(NamedTuple):
    """One truth; logging and policy are softmax of the expected reward times a sharpness."""

    name: str
    n: int
    n_arms: int
    spread: float  # of the logits
    shift: float
    logging: float
    policy: float
    scale: float  # of the rewards' probabilities


SETTINGS = (
    Setting("10 arms, common rewards", 1_000, 10, 2.0, 0.7, 0.0, 5.5, 1.0),
    Setting("10 arms, rewards / 10", 10_000, 10, 2.0, 0.7, 0.0, 5.5, 0.1),
    Setting("50 arms, very bad logging", 5_000, 50, 3.0, 0.5, -2.0, 10.0, 1.0),
    Setting("50 arms, rewards / 20", 20_000, 50, 3.0, 0.5, -2.0, 10.0, 0.05),
)
COVERAGE = tuple((n_arms, rate) for n_arms in (2, 10, 50) for rate in (0.01, 0.1, 0.8))


class Log(NamedTuple):
    """A log, the policy to value, predictions by models that saw other rows, the truth."""

    policy: Floats
    action: NDArray[np.int64]
    reward: Floats
    propensity: Floats
    x: Floats
    q_hat: Floats
    truth: float

    @property
    def arguments(self) -> dict[str, Any]:
        """First arguments of `policy_value`."""
        return {
            "policy_probs": self.policy,
            "action": self.action,
            "reward": self.reward,
            "propensity": self.propensity,
        }


def softmax(logits: Floats) -> Floats:
    """Rows of probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _act(probs: Floats, uniform: Floats) -> NDArray[np.int64]:
    return np.asarray((uniform[:, None] > probs.cumsum(axis=1)[:, :-1]).sum(axis=1))


def draw_setting(setting: Setting, seed: int) -> Log:
    """Seeded log of a setting with a ridge model per arm, cross-fitted in two folds."""
    n, k = setting.n, setting.n_arms
    truth = stream(0, "bench.ope.world", k)
    of_x, of_arm = truth.uniform(-1, 1, 5), truth.uniform(-1, 1, k)
    of_both = truth.uniform(-1, 1, (5, k))
    rng = stream(seed, "bench.ope.log", setting.name)
    x = rng.normal(size=(n, 5))
    logits = (x @ of_x)[:, None] + of_arm + x @ of_both
    spread = np.sqrt(of_arm.var() + ((of_x[:, None] + of_both) ** 2).sum(axis=0).mean())
    logits = setting.spread * (logits - of_arm.mean()) / spread + setting.shift
    mean = 1.0 / (1.0 + np.exp(-logits))
    logging, policy = softmax(setting.logging * mean), softmax(setting.policy * mean)
    action, rows = _act(logging, rng.random(n)), np.arange(n)
    reward = (rng.random(n) < setting.scale * mean[rows, action]).astype(float)
    q_hat = _ridge(x, action, reward, rng.integers(0, 2, n), k)
    value = setting.scale * float((policy * mean).sum(axis=1).mean())
    return Log(policy, action, reward, logging[rows, action], x, q_hat, value)


def _ridge(
    x: Floats, action: NDArray[np.int64], reward: Floats, fold: NDArray[np.int64], n_arms: int
) -> Floats:
    design = np.column_stack([x, np.ones(len(x))])
    found = np.empty((len(x), n_arms))
    for f in (0, 1):
        for arm in range(n_arms):
            rows = (fold != f) & (action == arm)
            gram = design[rows].T @ design[rows] + np.eye(design.shape[1])
            weights = np.linalg.solve(gram, design[rows].T @ reward[rows])
            found[fold == f, arm] = design[fold == f] @ weights
    return found


class CoverageWorld:
    """Binary rewards at a rate, heterogeneous by user and arm; logging with fair overlap."""

    def __init__(self, n_arms: int, rate: float) -> None:
        rng = stream(5, "bench.ope.coverage", n_arms)
        self.n_arms, self.rate = n_arms, rate
        self._arm = 0.5 * rng.normal(size=n_arms)
        self._both = 0.4 * rng.normal(size=(4, n_arms))

    def draw(self, n: int, seed: int) -> tuple[Log, Floats]:
        """Seeded log, and a second policy."""
        rng = stream(seed, "bench.ope.coverage.log", self.n_arms, n, round(100 * self.rate))
        x = rng.normal(size=(n, 4))
        logits, mean = self._mean(x)
        logging = softmax(0.7 * np.roll(logits, 1, axis=1) + 0.3 * logits)
        policy = softmax(3.0 * logits)
        action, rows = _act(logging, rng.random(n)), np.arange(n)
        reward = (rng.random(n) < mean[rows, action]).astype(float)
        value = float((policy * mean).sum(axis=1).mean())
        chance = logging[rows, action]
        return Log(policy, action, reward, chance, x, np.zeros((0, 0)), value), softmax(logits)

    def _mean(self, x: Floats) -> tuple[Floats, Floats]:
        logits = self._arm + x @ self._both
        return logits, 1.0 / (1.0 + np.exp(-logits - np.log(self.rate / (1.0 - self.rate))))

    def offers(self, log: Log) -> tuple[Floats, Floats, Floats]:
        """Predicted values, costs and doubly robust scores of the arms beside arm 0."""
        value, cost = self._plan(log.x)
        flat = np.full((len(log.x), self.n_arms), self.rate)
        return value, cost, aipw_scores(log.action, log.reward, log.propensity, flat)

    def _plan(self, x: Floats) -> tuple[Floats, Floats]:
        logits, _ = self._mean(x)  # predictions of the right order and the wrong size
        value = self.rate * (logits[:, 1:] - logits[:, :1])
        return value, 0.5 + np.abs(x[:, :1]) + np.linspace(0.0, 1.0, self.n_arms - 1)

    def truth(self) -> tuple[float, float, float, float]:
        """Value, difference, half of the largest spend, and the gain at that spend."""
        parts = []
        x = stream(9, "bench.ope.coverage.truth").normal(size=(200_000, 4))
        values, costs, effects = [], [], []
        for rows in np.array_split(x, 20):
            logits, mean = self._mean(rows)
            first, second = softmax(3.0 * logits), softmax(logits)
            parts.append([(first * mean).sum(axis=1).mean(), (second * mean).sum(axis=1).mean()])
            value, cost = self._plan(rows[:5000])
            values.append(value)
            costs.append(cost)
            effects.append(mean[:5000])
        curve = gain_curve(
            np.concatenate(values), np.concatenate(costs), np.concatenate(effects), n_points=400
        )
        half = float(curve.spend[-1]) / 2.0
        own, other = np.mean(parts, axis=0).tolist()
        return own, own - other, half, curve.at(half)[0]
