"""An allocation has the same bits in this process, on workers, and after a worker was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any

import numpy as np
import pytest

from promo_ray.allocation import Allocation, AllocationProblem, solve, solve_resident
from promo_ray.distributed import RayExecutor
from promo_ray.errors import DataError, InfeasibleError
from promo_ray.execution import SerialExecutor
from promo_ray.telemetry import Message, Progress

N_USERS, BLOCK_USERS = 40_000, 4700  # more users than are sampled: passes over the workers


def _problem(kind: str) -> AllocationProblem:
    rng = np.random.default_rng(4)
    n, m, k = N_USERS, 5, 3
    value = rng.gamma(2, 1, (n, m)).astype(np.float32)
    costs = rng.gamma(2, 1, (k, n, m)).astype(np.float32)
    use = costs[:, np.arange(n), value.argmax(axis=1)].sum(axis=1, dtype=np.float64)
    fields: dict[str, Any] = {"value": value, "costs": costs, "budgets": 0.2 * use}
    if kind == "floors":
        fields |= {
            "capacity": np.full(m, n // 12),
            "segment_idx": (np.arange(n) % 4).astype(np.int32),
            "floors": np.full(4, n // 12),
        }
    if kind == "several":
        fields |= {"max_offers": 2, "groups": [([0, 1, 2], 1)]}
    return AllocationProblem(**fields)


def _bits(found: Allocation) -> tuple[Any, ...]:
    return (
        found.choice.tobytes(),
        found.prices.tobytes(),
        found.slack.tobytes(),
        found.value,
        found.bound,
        found.n_passes,
    )


@pytest.mark.ray
@pytest.mark.parametrize("kind", ["dense", "floors", "several"])
def test_workers_give_the_bits_of_this_process(ray_session: Any, kind: str) -> None:
    problem = _problem(kind)
    expected = _bits(solve(problem))
    assert _bits(solve(problem, SerialExecutor(), block_users=BLOCK_USERS)) == expected
    for n_workers in (1, 2, 3):
        with RayExecutor(n_workers, num_cpus_per_worker=0.25) as executor:
            found = solve(problem, executor, block_users=BLOCK_USERS)
        assert _bits(found) == expected, n_workers


def _pid(_shard: int) -> int:
    return os.getpid()


@pytest.mark.ray
@pytest.mark.parametrize("delay_s", [0.0, 0.002])
def test_a_worker_killed_in_the_middle_of_a_solve_leaves_the_same_bits(
    ray_session: Any, delay_s: float
) -> None:
    """Once between two passes, once most likely within one."""
    problem = _problem("floors")
    expected = _bits(solve(problem))
    killed: list[int] = []
    timers: list[threading.Timer] = []

    with RayExecutor(2, num_cpus_per_worker=0.25) as executor:
        pids = sorted(set(executor.load(list(range(8))).map(_pid)))
        assert len(pids) == 2

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[0], signal.SIGKILL)
            killed.append(pids[0])

        def sink(message: Message) -> None:
            if message.stage == "allocate" and message.done >= 1 and not timers:
                timers.append(threading.Timer(delay_s, kill))
                timers[0].start()
                if delay_s == 0.0:
                    timers[0].join()

        progress = Progress(sink, min_interval_s=0)
        found = solve(problem, executor, block_users=BLOCK_USERS, progress=progress)
        timers[0].join()
        later = set(executor.load(list(range(8))).map(_pid))
    assert _bits(found) == expected
    assert killed
    assert killed[0] not in later  # a new process took over
    assert len(later - set(pids)) == 1


@pytest.mark.ray
def test_errors_of_an_allocation_arrive_as_themselves(ray_session: Any) -> None:
    problem = _problem("floors")
    n = N_USERS
    too_high = AllocationProblem(
        value=problem.value,
        costs=problem.costs,
        budgets=problem.budgets,
        segment_idx=problem.segment_idx,
        floors=np.array([0, n / 4 + 1, 0, 0]),
    )
    block = problem.blocks(n)[0]
    bad = block._replace(value=np.where(block.value > 2, np.nan, block.value).astype(np.float32))
    with RayExecutor(2, num_cpus_per_worker=0.25) as executor:
        with pytest.raises(InfeasibleError) as refused:
            solve(too_high, executor, block_users=BLOCK_USERS)
        with pytest.raises(DataError, match="blocks"):
            solve_resident(executor.load([block, bad]), problem.budgets)
    assert refused.value.rows == ("floor[1]",)
    assert refused.value.max_floor_scale == pytest.approx(n / 4 / (n / 4 + 1), rel=1e-3)
