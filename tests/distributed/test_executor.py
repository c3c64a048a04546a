import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import ray

from promo_ray.distributed import RayExecutor, session
from promo_ray.distributed.worker import Run, ShardHost, Task
from promo_ray.errors import ConfigError, DataError, StopRequestedError
from promo_ray.execution import SerialExecutor, iterate
from promo_ray.numerics.merge_tree import tree_reduce
from promo_ray.seeding import stream
from promo_ray.telemetry import Progress

N_SHARDS = 21  # no power of two and no multiple of the numbers of workers


def _shards() -> list[np.ndarray]:
    """Values over 16 orders of magnitude: any other order of summation gives other bits."""
    draws = [stream(5, "shard", i) for i in range(N_SHARDS)]
    return [g.normal(size=50) * 10.0 ** g.integers(-8, 8, size=50) for g in draws]


class _Read(NamedTuple):
    index: int

    def __call__(self) -> np.ndarray:
        return _shards()[self.index]


def _total(shard: np.ndarray, scale: float) -> float:
    return float(np.sum(shard) * scale)


def _add(a: float, b: float) -> float:
    return a + b


class _PowerIteration:
    """Leading axis of the shards' values folded to 5 columns; ten rounds."""

    def init(self, seed: int) -> tuple[int, np.ndarray]:
        return 0, stream(seed, "power").normal(size=5)

    def partial(self, shard: np.ndarray, state: tuple[int, np.ndarray]) -> np.ndarray:
        x = shard.reshape(10, 5)
        return x.T @ (x @ state[1])

    def merge(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a + b

    def update(self, state: tuple[int, np.ndarray], stats: np.ndarray) -> tuple[int, np.ndarray]:
        return state[0] + 1, stats / np.linalg.norm(stats)

    def done(self, state: tuple[int, np.ndarray]) -> bool:
        return state[0] == 10


@pytest.fixture(scope="module", params=[1, 2, 4])
def executor(request: pytest.FixtureRequest, ray_session: Any) -> Iterator[RayExecutor]:
    with RayExecutor(request.param, num_cpus_per_worker=0.25) as opened:
        yield opened


@pytest.mark.ray
def test_map_and_reduce_give_the_bytes_of_the_serial_executor(executor: RayExecutor) -> None:
    sources = [_Read(i) if i % 2 else shard for i, shard in enumerate(_shards())]
    serial, remote = SerialExecutor().load(sources), executor.load(sources)
    each = list(range(N_SHARDS))
    expected = serial.map(lambda shard, k, own: shard * k + own, 3.0, each=each)
    got = remote.map(lambda shard, k, own: shard * k + own, 3.0, each=each)
    assert [g.tobytes() for g in got] == [e.tobytes() for e in expected]
    assert remote.n_shards == N_SHARDS
    total = serial.reduce(_total, _add, 1.5)
    assert remote.reduce(_total, _add, 1.5).hex() == total.hex()
    assert sum(serial.map(_total, 1.5)).hex() != total.hex()  # the order of merging shows
    remote.release()
    assert remote.n_shards == 0


@pytest.mark.ray
def test_iterate_gives_the_bytes_of_the_serial_executor(executor: RayExecutor) -> None:
    expected = iterate(_PowerIteration(), _shards(), seed=3).state[1]
    got = iterate(_PowerIteration(), [_Read(i) for i in range(N_SHARDS)], executor, seed=3).state[1]
    assert got.tobytes() == expected.tobytes()


@pytest.mark.ray
def test_a_worker_computes_on_one_thread(executor: RayExecutor) -> None:
    def threads(_shard: int) -> tuple[str, list[int]]:
        import os

        import numpy as np
        from threadpoolctl import threadpool_info

        np.ones(4) @ np.ones((4, 4))
        return os.environ["OMP_NUM_THREADS"], [pool["num_threads"] for pool in threadpool_info()]

    ((setting, pools),) = executor.load([0]).map(threads)
    assert setting == "1"
    assert pools
    assert set(pools) == {1}


@pytest.mark.ray
def test_errors_of_user_functions_arrive_as_themselves(executor: RayExecutor) -> None:
    def fail(shard: int) -> int:
        if shard == 2:
            raise DataError("price must be > 0; got -1", where="events part 2")
        return shard

    def read() -> int:
        raise FileNotFoundError("no such part")

    resident = executor.load([1, 2, 3])
    for run in (lambda: resident.map(fail), lambda: resident.reduce(fail, _add)):
        with pytest.raises(DataError, match="price must be > 0") as caught:
            run()
        assert type(caught.value) is DataError
        assert caught.value.where == "events part 2"
        assert "in fail" in str(caught.value.__cause__)  # the worker's traceback is kept
    assert resident.map(lambda shard: shard + 1) == [2, 3, 4]  # the actors live on
    with pytest.raises(FileNotFoundError, match="no such part"):
        executor.load([read]).map(fail)


@pytest.mark.ray
def test_progress_counts_shards_and_may_stop_a_map(executor: RayExecutor) -> None:
    seen: list[int] = []
    resident = executor.load(list(range(N_SHARDS)))
    progress = Progress(lambda message: seen.append(message.done), min_interval_s=0)
    resident.map(lambda shard: shard, progress=progress, stage="profile")
    assert seen == sorted(seen)
    assert seen[-1] == N_SHARDS
    with pytest.raises(StopRequestedError, match="profile stopped"):
        resident.map(lambda s: s, progress=Progress(lambda _m: True), stage="profile")


@pytest.mark.ray
def test_a_map_keeps_few_calls_in_flight(ray_session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    wait = ray.wait

    def counted(references: list[Any], **options: Any) -> Any:
        waited.append(len(references))
        return wait(references, **options)

    with RayExecutor(2, num_cpus_per_worker=0.25, max_in_flight_per_worker=3) as executor:
        resident = executor.load(list(range(100)))
        monkeypatch.setattr(
            ray,
            "wait",
            lambda refs, **options: (waited.append(len(refs)), wait(refs, **options))[1],
        )
        assert resident.map(lambda shard: shard) == list(range(100))
    assert max(waited) == 6
    assert len(waited) == 16  # calls, not shards


@pytest.mark.ray
def test_released_shards_leave_the_actors_and_the_store(ray_session: Any, tmp_path: Path) -> None:
    def read() -> str:
        with open(tmp_path / "reads", "a") as log:
            log.write("x")
        return "shard"

    with RayExecutor(1, num_cpus_per_worker=0.25) as executor:
        first = executor.load([read])
        assert first.map(str.upper) == first.map(str.upper) == ["SHARD"]
        assert (tmp_path / "reads").read_text() == "x"  # resident: read once
        first.release()
        assert executor.load([read]).map(str.upper) == ["SHARD"]
        assert (tmp_path / "reads").read_text() == "xx"


@pytest.mark.ray
def test_a_closed_executor_and_wrong_arguments_are_refused(ray_session: Any) -> None:
    executor = RayExecutor(1, num_cpus_per_worker=0.25)
    resident = executor.load([1, 2])
    with pytest.raises(ValueError, match="each must have 2 values; got 1"):
        resident.map(lambda shard, own: own, each=[1])
    with pytest.raises(ValueError, match="at least one shard"):
        executor.load([]).reduce(_total, _add, 1.0)
    assert executor.load([]).map(_total, 1.0) == []
    executor.close()
    with pytest.raises(ConfigError, match="it was closed"):
        executor.load([1])
    with pytest.raises(ConfigError, match="n_workers must be >= 1; got 0"):
        RayExecutor(0)
    with pytest.raises(ConfigError, match="max_in_flight_per_worker >= 1"):
        RayExecutor(1, max_in_flight_per_worker=0)


@pytest.mark.ray
def test_a_session_uses_an_open_connection_and_leaves_it_open(ray_session: Any) -> None:
    with session("local", n_workers=1) as opened:
        assert opened.n_cpus == 4
        assert not opened.is_private
    assert ray.is_initialized()


def _host_results(n_shards: int, n_workers: int) -> tuple[list[dict], list[str]]:
    leaves = [f"{i}" for i in range(n_shards)]
    task = Task(str.format, (), lambda a, b: f"({a}+{b})")
    parts = []
    for w in range(n_workers):
        start, stop = n_shards * w // n_workers, n_shards * (w + 1) // n_workers
        run = Run(0, start, stop, n_shards, leaves[start:stop])
        parts.append(ShardHost(fetch=lambda sources: sources).reduce(run, task))
    return parts, leaves


@pytest.mark.parametrize("n_workers", [1, 2, 3, 7])
def test_a_worker_sends_the_driver_a_logarithmic_number_of_results(n_workers: int) -> None:
    for n_shards in (64, 1000, 1024):
        parts, leaves = _host_results(n_shards, n_workers)
        assert max(len(part) for part in parts) <= 2 * np.log2(n_shards)
        if n_workers in (1, 2) and n_shards != 1000:
            assert [len(part) for part in parts] == [1] * n_workers
        assert tree_reduce(leaves, lambda a, b: f"({a}+{b})").count("+") == n_shards - 1


def test_a_new_host_reads_only_the_shards_it_misses() -> None:
    reads: list[int] = []

    class Source(NamedTuple):
        index: int

        def __call__(self) -> int:
            reads.append(self.index)
            return self.index * 10

    run = Run(7, 4, 8, 20, [Source(i) for i in range(4, 8)])
    host = ShardHost(fetch=lambda sources: sources)
    task = Task(lambda shard, k: shard + k, (1,))
    assert host.map(run, 5, 7, task, None) == [51, 61]
    assert host.map(run, 4, 6, task, None) == [41, 51]
    assert reads == [5, 6, 4]
    host.release(7)
    assert host.map(run, 5, 6, Task(lambda shard, own: own, ()), ["own"]) == ["own"]
    assert reads == [5, 6, 4, 5]
    with pytest.raises(ValueError, match="needs a task with a merge"):
        host.reduce(run, task)


def test_an_executor_without_a_session_says_so_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match="needs a Ray session"):
        RayExecutor(2)


def test_a_session_refuses_an_address_where_no_cluster_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(**_options: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nmore text")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", unreachable)
    with pytest.raises(
        ConfigError, match=r"got 'auto': Could not find any running Ray instance\.$"
    ):
        with session("auto"):
            pass
    with pytest.raises(ConfigError, match="n_workers must be >= 1; got 0"):
        with session(n_workers=0):
            pass


PRIVATE = """
import json, os
import ray
from promo_ray.distributed import RayExecutor, session

with session(n_workers=3, object_store_bytes=100 * 2**20) as opened:
    with RayExecutor(3) as executor:
        threads = executor.load([0]).map(lambda shard: os.environ["OPENBLAS_NUM_THREADS"])
print(json.dumps({
    "n_cpus": opened.n_cpus, "is_private": opened.is_private, "threads": threads,
    "is_open": ray.is_initialized(), "mine": os.environ.get("OPENBLAS_NUM_THREADS"),
}))
"""


@pytest.mark.cluster
def test_a_private_session_ends_with_its_block_and_is_quiet(tmp_path: Path) -> None:
    names = ("RAY_AUTH_MODE", "OPENBLAS_NUM_THREADS")
    env = {k: v for k, v in os.environ.items() if k not in names}
    command = [sys.executable, "-c", PRIVATE]
    done = subprocess.run(
        command,
        env={**env, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    got = json.loads(done.stdout)  # nothing else on standard output
    assert got == {
        "n_cpus": max(3, os.cpu_count() or 1),
        "is_private": True,
        "threads": ["1"],
        "is_open": False,
        "mine": None,
    }
    assert done.stderr == ""
