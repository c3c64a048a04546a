"""Off-policy evaluation on planted truth: error, coverage, bounds, gate, speed, beside OBP.

Open Bandit Pipeline needs pins of its own: install it elsewhere (`pip install
--ignore-requires-python --no-deps obp==0.5.5` and its imports) and name that interpreter in
`PROMO_RAY_OBP_PYTHON`; without it its records say so.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promo_ray.bench.ope_logs import COVERAGE, SETTINGS, CoverageWorld, Log, draw_setting
from promo_ray.bench.ope_stream import stream_speed
from promo_ray.evaluation import (
    compare_policies,
    gain_curve,
    lower_bound,
    policy_value,
    release_gate,
)
from promo_ray.seeding import stream

Floats = NDArray[np.float64]

_FIXED = (
    "dm", "ips", "snips", "dr", "sndr", "mrdr",
    "clipped_ips", "clipped_snips", "clipped_dr", "switch_dr", "dros",
)  # fmt: skip
_OBP = """
import json, sys, time
import numpy as np
from obp.ope import DoublyRobust, DoublyRobustWithShrinkageTuning, InverseProbabilityWeighting
n, k, lambdas = int(sys.argv[1]), int(sys.argv[2]), [1, 5, 10, 50, 100, 500, 1000, float("inf")]
rng = np.random.default_rng(0)
probs = rng.random((n, k)); probs /= probs.sum(1, keepdims=True)
log = dict(action=rng.integers(0, k, n), pscore=np.full(n, 1 / k), position=np.zeros(n, int),
           action_dist=probs[:, :, None], reward=(rng.random(n) < 0.3).astype(float))
model = dict(estimated_rewards_by_reg_model=rng.random((n, k))[:, :, None])
for name, peer, more in (("ips", InverseProbabilityWeighting(), {}), ("dr", DoublyRobust(), model),
                         ("dros", DoublyRobustWithShrinkageTuning(lambdas=lambdas), model)):
    started = time.process_time()
    peer.estimate_interval(**log, **more, n_bootstrap_samples=100, random_state=0)
    print(json.dumps([name, time.process_time() - started]), flush=True)
"""


def run(quick: bool = False) -> Iterator[dict[str, Any]]:
    """Records of error, bounds, coverage, the gate, gain curves and speed.

    Args:
        quick: fewer seeds and smaller logs, about a minute.
    """
    yield from errors(20 if quick else 200)
    yield from coverage(20 if quick else 500, (2000,) if quick else (2000, 20_000, 200_000))
    yield gate(40 if quick else 1000)
    yield gain_speed(100_000 if quick else 1_000_000)
    yield from speed(100_000 if quick else 1_000_000)
    yield from stream_speed(100_000 if quick else 10_000_000, 1000)


def errors(n_logs: int) -> Iterator[dict[str, Any]]:
    """Error relative to the truth of every method, and the bounds, in four settings."""
    for setting in SETTINGS:
        logs = [draw_setting(setting, seed) for seed in range(n_logs)]
        truth = float(np.mean([log.truth for log in logs]))
        found: dict[str, list[Any]] = {name: [] for name in (*_FIXED, "auto")}
        bounds = []
        for log in logs:
            for name, estimates in found.items():
                estimates.append(policy_value(**log.arguments, q_hat=log.q_hat, method=name))
            low = lower_bound(**log.arguments, x=log.x).low
            bounds.append((low, *_bernstein(log)))
        error = {
            name: float(np.sqrt(np.mean([(e.value - truth) ** 2 for e in estimates]))) / truth
            for name, estimates in found.items()
        }
        best = min(_FIXED, key=lambda name: error[name])
        lows, widths, distances = np.array(bounds).T
        auto = found["auto"]
        yield {
            "bench": "ope", "case": "error", "setting": setting.name, "n_logs": n_logs,
            "value": truth, "nrmse": error, "best_fixed": best,
            "auto_over_best": error["auto"] / error[best],
            "auto_coverage": float(np.mean([e.low <= truth <= e.high for e in auto])),
            "auto_low_above": float(np.mean([e.low > truth for e in auto])),
            "bound_above": float(np.mean(lows > truth)),
            "bound_distance": (truth - float(lows.mean())) / truth,
            "over_bernstein_width": (truth - float(lows.mean())) / float(widths.mean()),
            "over_bernstein_distance": (truth - float(lows.mean())) / float(distances.mean()),
        }  # fmt: skip


def _bernstein(log: Log) -> tuple[float, float]:
    """Two-sided width and one-sided distance at 95 % of the empirical Bernstein bound of IPS.

    Source: Maurer and Pontil 2009, range = largest weight seen, as OBP has it.
    """
    rows = np.arange(len(log.reward))
    weight = log.policy[rows, log.action] / log.propensity
    gains = weight * log.reward
    n, term = len(gains), float(np.log(2.0 / 0.05))
    spread = float(np.sqrt(2.0 * term * gains.var(ddof=1) / n))
    distance = 7.0 * float(weight.max()) * term / (3.0 * (n - 1)) + spread
    return 2.0 * distance, distance


def coverage(n_logs: int, sizes: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Share of 95 % intervals that hold the truth: value, difference, gain at half the spend."""
    for n_arms, rate in COVERAGE:
        world = CoverageWorld(n_arms, rate)
        value, difference, half, gain = world.truth()
        for n in sizes:
            hits: dict[str, list[tuple[bool, bool]]] = {"value": [], "difference": [], "gain": []}
            withheld = 0
            for seed in range(n_logs):
                log, other = world.draw(n, seed)
                own = policy_value(**log.arguments)
                gap = compare_policies(**log.arguments, other_probs=other)
                _, low, high = gain_curve(*world.offers(log)).at(half)
                hits["value"].append((own.low > value, own.high < value))
                hits["difference"].append((gap.low > difference, gap.high < difference))
                hits["gain"].append((low > gain, high < gain))
                withheld += bool(own.withheld)
            record: dict[str, Any] = {
                "bench": "ope", "case": "coverage", "n": n, "n_arms": n_arms, "rate": rate,
                "n_logs": n_logs, "withheld": withheld / n_logs,
            }  # fmt: skip
            for name, sides in hits.items():
                above, below = np.mean(sides, axis=0).tolist()
                record[name] = {"covered": 1.0 - above - below, "low_above": above}
            yield record


def gate(n_campaigns: int, n: int = 100_000) -> dict[str, Any]:
    """Harmful and useful releases of policies 5 % worse, as good, and 5 % better than the log's.

    Ten offers, 10 % of users buy without a better offer; the log explores with one half.
    """
    released = dict.fromkeys(("worse", "equal", "better"), 0)
    for seed in range(n_campaigns):
        rng = stream(seed, "bench.ope.gate")
        chance = 0.1 * np.exp(0.2 * rng.normal(size=n))
        lift = np.array([1.0, *np.linspace(0.9, 1.3, 9)])
        logging = np.full(10, 0.05) + 0.5 * np.eye(10)[0]
        action = rng.choice(10, size=n, p=logging)
        reward = (rng.random(n) < np.minimum(1.0, chance * lift[action])).astype(float)
        mean = float(logging @ lift)
        for name, factor in (("worse", 0.95), ("equal", 1.0), ("better", 1.05)):
            probs = _policy_worth(lift, factor * mean)
            policy = np.broadcast_to(probs, (n, 10))
            verdict = release_gate(policy, None, action, reward, logging[action])
            released[name] += verdict.is_released
    return {
        "bench": "ope", "case": "gate", "n": n, "n_campaigns": n_campaigns,
        **{f"released_{name}": count / n_campaigns for name, count in released.items()},
    }  # fmt: skip


def _policy_worth(lift: Floats, target: float) -> Floats:
    """Mixture of the softmax family over arms whose mean lift is the target."""
    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2.0
        probs = np.exp(middle * (lift - lift.mean()))
        probs /= probs.sum()
        low, high = (middle, high) if probs @ lift < target else (low, middle)
    return np.asarray(probs)


def gain_speed(n: int) -> dict[str, Any]:
    """Processor seconds of a curve over five offers."""
    rng = stream(0, "bench.ope.gain")
    value, cost = rng.normal(0.5, 1.0, (n, 5)), rng.uniform(0.2, 2.0, (n, 5))
    scores = rng.normal(size=(n, 6))
    started = time.process_time()
    gain_curve(value, cost, scores)
    seconds = time.process_time() - started
    return {"bench": "ope", "case": "gain_curve", "n": n, "n_offers": 5, "cpu_s": seconds}


def speed(n: int, n_arms: int = 100) -> Iterator[dict[str, Any]]:
    """Processor seconds of estimates with intervals, beside OBP with its 100 bootstraps."""
    rng = stream(0, "bench.ope.speed")
    probs = rng.random((n, n_arms))
    probs /= probs.sum(axis=1, keepdims=True)
    action, chance = rng.integers(0, n_arms, n), np.full(n, 1.0 / n_arms)
    reward = (rng.random(n) < 0.3).astype(float)
    q_hat = rng.random((n, n_arms))
    own = {}
    policy_value(probs[:1000], action[:1000], reward[:1000], chance[:1000])  # imports, as OBP's
    for method in ("ips", "dr", "dros", "auto"):
        started = time.process_time()
        policy_value(probs, action, reward, chance, q_hat=q_hat, method=method)
        own[method] = time.process_time() - started
        yield {
            "bench": "ope", "case": "speed", "method": method, "n": n, "n_arms": n_arms,
            "cpu_s": own[method],
        }  # fmt: skip
    del probs, q_hat
    python = os.environ.get("PROMO_RAY_OBP_PYTHON")
    if python is None:
        yield {"bench": "ope", "case": "speed", "peer": "obp", "skipped": "PROMO_RAY_OBP_PYTHON"}
        return
    command = [python, "-c", _OBP, str(n), str(n_arms)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        method, seconds = json.loads(line)
        yield {
            "bench": "ope", "case": "speed", "peer": "obp 0.5.5", "method": method, "n": n,
            "n_arms": n_arms, "cpu_s": seconds, "ratio": seconds / own[method],
        }  # fmt: skip
