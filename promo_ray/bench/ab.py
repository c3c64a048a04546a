"""What the A/B statistics promise, measured: false alarms, stopping, lost users, coverage, cut."""

from __future__ import annotations

import itertools
import os
import platform
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import binom, norm

from promo_ray.bench.ab_peers import peer_records
from promo_ray.evaluation.ab import ab_test
from promo_ray.evaluation.ab_adjust import cupac, cuped
from promo_ray.evaluation.ab_intervals import score_statistic
from promo_ray.evaluation.ab_moments import AbRows, users_of
from promo_ray.evaluation.ab_sequential import (
    moments_by_look,
    sequential_test,
    sequential_test_of_moments,
)
from promo_ray.evaluation.sequential import SPENDING
from promo_ray.evaluation.srm import SAMPLE_RATIO_ALARM, SAMPLE_RATIO_WARNING, sample_ratio
from promo_ray.seeding import stream

_N = 20_000  # users of a sequential trial, as in the peers' published comparison
_KINDS = ("normal", "spend", "conversion")
_RATES = (0.01, 0.1, 0.8)
_SIZES = (2_000, 20_000, 200_000)
Record = dict[str, Any]


def _outcome(kind: str, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Outcomes of one scale: normal, spend of 10 % buyers (log-normal), or conversions."""
    if kind == "normal":
        return rng.normal(size=n)
    if kind == "spend":
        return (rng.random(n) < 0.1) * rng.lognormal(3.0, 1.0, n)
    return (rng.random(n) < 0.1).astype(np.float64)


def _share(hits: int, n: int) -> Record:
    share = hits / n
    return {"n_trials": n, "share": share, "se": (share * (1 - share) / n) ** 0.5}


def looks(quick: bool) -> Iterator[Record]:
    """A/A false alarms over 20 looks, and stops at an effect of 0.06 standard deviations."""
    n_trials = 300 if quick else 8000
    for kind in _KINDS:
        yield from _looked(kind, 0.0, n_trials)
        yield from _looked(kind, 0.0, n_trials // 2, split=10)
    yield from _looked("normal", 0.06, n_trials // 8)


def _looked(kind: str, effect: float, n_trials: int, split: int = 2) -> Iterator[Record]:
    """Share of trials stopped and mean stop of every method; one of `split` users is treated."""
    arm = (np.arange(_N) % split == split - 1).astype(np.int64)
    at = [_N * (k + 1) // 20 for k in range(20)]
    stops: dict[str, list[int]] = {m: [] for m in (*SPENDING, "always_valid")}
    for i in range(n_trials):
        y = _outcome(kind, _N, stream(0, "bench.ab.looks", kind, str(effect), i)) + effect * arm
        rows = AbRows(y, arm)
        moments = moments_by_look(rows, users_of(rows), at, 2)
        for method, found in stops.items():
            is_planned = method in SPENDING
            spending = method if is_planned else SPENDING[0]
            result = sequential_test_of_moments(
                moments, at, _N, is_planned=is_planned, spending=spending
            )
            found.append(int(result.stopped_at[0]))
    for method, found in stops.items():
        rows_seen = [at[k] if k >= 0 else _N for k in found]
        yield {
            "case": "20_looks", "outcome": kind, "effect_sd": effect, "method": method,
            "treated": 1 / split, **_share(sum(k >= 0 for k in found), n_trials),
            "mean_stop": float(np.mean(rows_seen)),
        }  # fmt: skip


def any_time(quick: bool) -> Iterator[Record]:
    """A/A false alarms of the always-valid test with a look every 250 of 100,000 rows."""
    n, n_trials = 100_000, 40 if quick else 400
    for kind, split in itertools.product(_KINDS, (2, 10)):
        arm, alarms = (np.arange(n) % split == split - 1).astype(np.int64), 0
        for i in range(n_trials):
            y = _outcome(kind, n, stream(0, "bench.ab.anytime", kind, i))
            alarms += int(
                sequential_test(y, arm, looks=400, method="always_valid").stopped_at[0] >= 0
            )
        yield {
            "case": "aa_always_valid_400_looks", "outcome": kind, "treated": 1 / split,
            **_share(alarms, n_trials),
        }  # fmt: skip


def lost_users(quick: bool) -> Iterator[Record]:
    """False alarms and power of the sample ratio, exact by summing over the binomial counts.

    `best_possible` is the power of the best test of its level that knows the side of the shift.
    """
    for n in (200_000, 250_000, 400_000):
        counts = np.arange(int(0.494 * n), int(0.511 * n))
        p = np.array([sample_ratio([c, n - c], [1, 1]).statistic for c in counts.tolist()])
        shift = 0.005 / (0.25 / n) ** 0.5
        for tier, limit in (("alarm", SAMPLE_RATIO_ALARM), ("warning", SAMPLE_RATIO_WARNING)):
            found = p < limit
            yield {
                "case": "sample_ratio_50.5_49.5", "n": n, "tier": tier, "limit": limit,
                "false": 1 - float(binom.pmf(counts, n, 0.5)[~found].sum()),
                "power": 1 - float(binom.pmf(counts, n, 0.505)[~found].sum()),
                "best_possible": float(norm.sf(norm.isf(limit) - shift)),
            }  # fmt: skip


def coverage(quick: bool) -> Iterator[Record]:
    """Coverage of nominal 95 % intervals of average effects over 500 seeded logs.

    The treatment raises the rate by a tenth. Proportions carry the exact coverage beside, summed
    over the outcomes of both binomials; money is the conversion times a log-normal amount.
    """
    for n in _SIZES[:2] if quick else _SIZES:
        for rate, split in itertools.product(_RATES, (2, 10)):
            hits = [_covered(n, rate, split, log) for log in range(500)]
            for kind in hits[0]:
                record = {
                    "case": "coverage", "metric": kind, "n": n, "rate": rate, "treated": 1 / split,
                    **_share(sum(h[kind] for h in hits), len(hits)),
                }  # fmt: skip
                if kind == "proportion" and split == 2:
                    record["exact"] = _exact(n // 2, rate)
                yield record


def _covered(n: int, rate: float, split: int, log: int) -> dict[str, bool]:
    """Whether each metric's interval holds the truth in one log; one of `split` is treated."""
    arm = (np.arange(n) % split == split - 1).astype(np.int64)
    rng = stream(0, "bench.ab.coverage", n, str(rate), log)
    buys = (rng.random(n) < rate * (1 + 0.1 * arm)).astype(np.float64)
    spend = buys * rng.lognormal(3.0, 0.5, n)
    visits = 1.0 + rng.poisson(1.0, n)
    truth = 0.1 * rate * float(np.exp(3.125))
    found = {
        "proportion": (ab_test(buys, arm)[1], 0.1 * rate),
        "money": (ab_test(spend, arm)[1], truth),
        "money_by_user_ratio": (ab_test(spend, arm, denominator=visits)[1], truth / 2),
    }
    return {k: bool(a.effect_low <= want <= a.effect_high) for k, (a, want) in found.items()}


def many_arms(quick: bool) -> Iterator[Record]:
    """Exact coverage of one arm's effect where 10 or 50 arms share the users."""
    for n_arms in (10, 50):
        for n in _SIZES:
            for rate in _RATES:
                yield {
                    "case": "coverage_one_of_many", "n": n, "rate": rate, "n_arms": n_arms,
                    "users_per_arm": n // n_arms, "exact": _exact(n // n_arms, rate),
                }  # fmt: skip


def _exact(n: int, rate: float) -> float:
    """Coverage of the score interval of `1.1 rate - rate`, n users per arm, by enumeration."""
    z, total = float(norm.ppf(0.975)), 0.0
    spans = []
    for p in (1.1 * rate, rate):
        low, high = binom.ppf([1e-7, 1 - 1e-7], n, p).astype(int).tolist()
        step = max(1, (high - low) // 400)  # every step-th count stands for its neighbors
        counts = np.arange(low, high + 1, step)
        spans.append((counts, binom.pmf(counts, n, p)))
    (treated, chance), (control, chance_base) = spans
    for a, p in zip(treated.tolist(), chance.tolist(), strict=True):
        inside = [
            abs(score_statistic(a / n, n, b / n, n, 0.1 * rate)) <= z for b in control.tolist()
        ]
        total += p * float(chance_base @ np.array(inside))
    return float(total / (chance.sum() * chance_base.sum()))


def variance_cut(quick: bool) -> Iterator[Record]:
    """Measured cut of CUPED and CUPAC on a real one-shot trial, if its data are at hand."""
    root = Path(
        os.environ.get("PROMO_RAY_DATA", Path(__file__).parents[2] / ".." / "shared" / "data")
    )
    path = root / "hillstrom" / "hillstrom.parquet"
    if not path.exists():
        yield {"case": "variance_cut", "skipped": "hillstrom is not there"}
        return
    frame = pl.read_parquet(path).sort("row_id")
    texts = frame.select("zip_code", "channel").to_dummies()
    numbers = frame.select("recency", "history", "mens", "womens", "newbie")
    x = pl.concat([numbers, texts], how="horizontal").to_numpy().astype(np.float64)
    arm = (frame["segment"] != "No E-Mail").to_numpy().astype(np.int64)
    for name in ("visit", "spend"):
        y = frame[name].to_numpy().astype(np.float64)
        prediction = cupac(y, x)
        for label, z in (("cuped_history", x[:, 1]), ("cupac", prediction)):
            result = ab_test(y, arm, covariate=z)[1]
            yield {
                "case": "variance_cut", "data": "hillstrom", "outcome": name, "covariate": label,
                "n": len(y), "cut_within": cuped(y, z, arm).variance_cut,
                "cut_of_effect": result.variance_cut,
            }  # fmt: skip


def speed(quick: bool) -> Iterator[Record]:
    """Processor seconds of a test with a covariate, clustered by user."""
    n = 200_000 if quick else 1_000_000
    rng = stream(0, "bench.ab.speed")
    y, x, user = rng.normal(size=n), rng.normal(size=n), rng.integers(0, n // 4, n)
    for case, groups in (("rows", None), ("clustered", user)):
        seconds = []
        for _ in range(5):
            started = time.process_time()
            ab_test(y, user % 2, covariate=x, groups=groups)
            seconds.append(time.process_time() - started)
        spread = max(seconds) - min(seconds)
        yield {
            "case": f"speed_{case}",
            "n": n,
            "cpu_s": float(np.median(seconds)),
            "spread": spread,
        }


def run(quick: bool = False) -> Iterator[Record]:
    """One record per case; peers (statsmodels) run beside where they are installed.

    Args:
        quick: fewer trials.
    """
    versions = {p: metadata.version(p) for p in ("numpy", "scipy")}
    parts = (peer_records, lost_users, speed, variance_cut, looks, any_time, coverage, many_arms)
    for part in parts:
        for record in part(quick):
            yield {"bench": "ab", **record, **versions, "machine": platform.machine()}
