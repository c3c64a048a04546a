"""A killed worker process changes nothing: same bytes, no driver logic."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from promo_ray.distributed import RayExecutor
from promo_ray.execution import SerialExecutor, iterate
from promo_ray.seeding import stream

N_SHARDS, N_ROUNDS = 12, 6


class _Read(NamedTuple):
    index: int

    def __call__(self) -> np.ndarray:
        g = stream(9, "fault", self.index)
        return g.normal(size=(20, 4)) * 10.0 ** g.integers(-8, 8, size=(20, 4))


class _SlowPower(NamedTuple):
    """Power iteration whose partials take a while and note the process they ran in."""

    log: str | None  # directory
    pause_s: float

    def init(self, seed: int) -> tuple[int, np.ndarray]:
        return 0, stream(seed, "power").normal(size=4)

    def partial(self, shard: np.ndarray, state: tuple[int, np.ndarray]) -> np.ndarray:
        if self.log is not None:
            with open(Path(self.log) / f"round-{state[0]}", "a") as file:
                file.write(f"{os.getpid()}\n")
        time.sleep(self.pause_s)
        return shard.T @ (shard @ state[1])

    def merge(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a + b

    def update(self, state: tuple[int, np.ndarray], stats: np.ndarray) -> tuple[int, np.ndarray]:
        return state[0] + 1, stats / np.linalg.norm(stats)

    def done(self, state: tuple[int, np.ndarray]) -> bool:
        return state[0] == N_ROUNDS


def _pids(log: Path, at_round: int) -> set[int]:
    file = log / f"round-{at_round}"
    return {int(line) for line in file.read_text().split()} if file.exists() else set()


@pytest.mark.ray
def test_a_worker_killed_in_the_middle_of_iterate_leaves_the_same_bytes(
    ray_session: Any, tmp_path: Path, wait_until: Any
) -> None:
    sources = [_Read(i) for i in range(N_SHARDS)]
    expected = iterate(_SlowPower(None, 0.0), sources, SerialExecutor(), seed=1).state[1]
    killed: list[int] = []

    def kill_one() -> None:
        wait_until(lambda: bool(_pids(tmp_path, 2)), 60)
        victim = min(_pids(tmp_path, 2))
        killed.append(victim)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    with RayExecutor(2, num_cpus_per_worker=0.25) as executor:
        killer.start()
        got = iterate(_SlowPower(str(tmp_path), 0.03), sources, executor, seed=1).state[1]
        killer.join()
    assert got.tobytes() == expected.tobytes()
    first, last = _pids(tmp_path, 0), _pids(tmp_path, N_ROUNDS - 1)
    assert len(first) == len(last) == 2
    assert killed[0] in first
    assert killed[0] not in last  # a new process took over
    assert len(last - first) == 1
    assert os.getpid() not in first | last


@pytest.mark.ray
def test_a_worker_killed_in_the_middle_of_a_map_repeats_its_calls(
    ray_session: Any, tmp_path: Path
) -> None:
    def work(shard: np.ndarray, own: int) -> tuple[int, bytes]:
        once = tmp_path / "killed"
        if own == 7 and not once.exists():
            once.touch()
            time.sleep(0.3)  # answers already given reach the driver
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid(), (shard * own).tobytes()

    sources = [_Read(i)() for i in range(N_SHARDS)]  # values: they come back from the store
    with RayExecutor(2, num_cpus_per_worker=0.25) as executor:
        resident = executor.load(sources)
        got = resident.map(work, each=list(range(N_SHARDS)))
    assert (tmp_path / "killed").exists()
    assert len({pid for pid, _ in got}) == 3  # both workers and the one started anew
    assert [raw for _, raw in got] == [(s * i).tobytes() for i, s in enumerate(sources)]
