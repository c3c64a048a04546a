"""Time of one decision from prices alone, and of a decision in a batch."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.allocation import choose
from promo_ray.seeding import stream

_TARGET_P99_US = 20.0  # of one decision with 32 offers and 40 rows
_N_WARM = 500
_N_RUNS = 5  # batches


class Case(NamedTuple):
    """Offers per user, rows by kind, offers per user at most, type of values and costs."""

    m: int
    k: int
    n_offers: int
    n_segments: int
    max_offers: int
    dtype: str


_QUICK = (
    Case(10, 5, 0, 0, 1, "float32"),
    Case(32, 4, 32, 4, 1, "float32"),
    Case(32, 4, 32, 4, 1, "float64"),
)
_FULL = (
    *_QUICK,
    Case(32, 4, 32, 4, 3, "float32"),
    Case(200, 4, 200, 4, 1, "float32"),
)


class Users(NamedTuple):
    """Gamma values and costs of users, a tenth of the slots not eligible, and prices."""

    value: NDArray[np.floating]  # (n, m)
    costs: NDArray[np.floating]  # (n, k, m): the costs of a user lie together, as in serving
    prices: NDArray[np.float64]
    segment: NDArray[np.int32]

    @classmethod
    def draw(cls, case: Case, n: int, seed: int = 0) -> Users:
        """Seeded users of a case."""
        rng = stream(seed, "bench.online", case.m, case.k, case.n_offers)
        value = rng.gamma(2.0, 1.0, (n, case.m)).astype(case.dtype)
        value[rng.random(value.shape) < 0.1] = -np.inf
        costs = rng.gamma(2.0, 1.0, (n, case.k, case.m)).astype(case.dtype)
        n_rows = case.k + case.n_offers + case.n_segments
        prices = rng.uniform(0.05, 0.3, n_rows)
        segment = rng.integers(0, max(1, case.n_segments), n, dtype=np.int32)
        return cls(value, costs, prices, segment)


def single_ns(users: Users, case: Case, n_calls: int) -> NDArray[np.int64]:
    """Nanoseconds of each of some calls of `choose`, one user each."""
    found = np.empty(n_calls, dtype=np.int64)
    segments = users.segment.tolist() if case.n_segments else [None] * len(users.segment)
    for call in range(-_N_WARM, n_calls):
        i = call % len(users.value)
        value, costs, segment = users.value[i], users.costs[i], segments[i]
        started = time.perf_counter_ns()
        choose(
            value,
            costs,
            users.prices,
            segment_idx=segment,
            n_segments=case.n_segments,
            max_offers=case.max_offers,
        )
        ended = time.perf_counter_ns()
        if call >= 0:
            found[call] = ended - started
    return found


def batch_ns(users: Users, case: Case) -> list[float]:
    """Processor nanoseconds per decision of each of some calls for all users."""
    costs = np.ascontiguousarray(np.moveaxis(users.costs, 1, 0))
    found = []
    for _ in range(_N_RUNS):
        started = time.process_time_ns()
        choose(
            users.value,
            costs,
            users.prices,
            segment_idx=users.segment if case.n_segments else None,
            n_segments=case.n_segments,
            max_offers=case.max_offers,
        )
        found.append((time.process_time_ns() - started) / len(users.value))
    return found


def run(quick: bool = False) -> Iterator[dict[str, Any]]:
    """One record per case: p50 and p99 of single calls, nanoseconds per decision in a batch.

    The clock of a single call is the wall's, so that p99 holds whatever else the machine does.

    Args:
        quick: fewer cases.
    """
    n_calls, n_users = 20_000, 50_000
    for case in _QUICK if quick else _FULL:
        users = Users.draw(case, n_users)
        single = single_ns(users, case, n_calls) / 1000.0
        batch = batch_ns(users, case)
        p50, p99 = np.percentile(single, [50, 99]).tolist()
        yield {
            "bench": "online",
            **case._asdict(),
            "n_rows": len(users.prices),
            "n_calls": n_calls,
            "p50_us": p50,
            "p99_us": p99,
            "target_p99_us": _TARGET_P99_US,
            "n_batch": n_users,
            "batch_ns": float(np.median(batch)),
            "batch_ns_spread": max(batch) - min(batch),
            "numpy": np.__version__,
            "machine": platform.machine(),
        }
