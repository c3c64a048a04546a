import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_ray.errors import ArtifactError, ConfigError, StopRequestedError
from promo_ray.execution import run_islands
from promo_ray.execution.islands import cells_of
from promo_ray.execution.islands_log import History, Migration, MigrationLog, replay_of
from promo_ray.execution.islands_store import IslandStore
from promo_ray.telemetry import Message, Progress

sys.path.insert(0, str(Path(__file__).parent))  # for walkers

from walkers import VirtualExecutor, Walk

PROBLEM = np.array([1.0, 2.0])
KINDS = [Walk(0.5), Walk(0.1), Walk(0.5), Walk(1.0), Walk(0.1), Walk(0.5)]
ROUND = 3 * 4 * len(KINDS)  # evaluations of a round of all


def run(n_rounds: int = 8, **options: Any) -> Any:
    settings = {"migrate_every": 3, "seed": 5, "max_evals": ROUND * n_rounds, **options}
    return run_islands(KINDS, PROBLEM, **settings)


def same(a: Any, b: Any) -> bool:
    return (
        all(x.tobytes() == y.tobytes() for x, y in zip(a.best, b.best, strict=True))
        and a.history == b.history
        and a.rounds == b.rounds
        and a.migrations.equals(b.migrations)
    )


def stop_after(n: int) -> Progress:
    seen: list[Message] = []

    def sink(message: Message) -> bool:
        seen.append(message)
        return len(seen) == n

    return Progress(sink, min_interval_s=0)


@pytest.mark.parametrize("topology", ["ring", "torus", "fully_connected", "random-2"])
@pytest.mark.parametrize("executor", [VirtualExecutor(1), VirtualExecutor(2), VirtualExecutor(7)])
def test_sync_gives_the_same_bits_for_any_number_of_workers_and_batch(
    topology: str, executor: VirtualExecutor
) -> None:
    alone = run(topology=topology)
    assert same(alone, run(topology=topology, executor=executor))
    assert same(alone, run(topology=topology, executor=executor, max_batch=1))
    assert alone.n_evals == ROUND * 8
    assert alone.rounds == (8,) * 6


def test_sync_gives_the_same_bits_when_workers_are_lost() -> None:
    executor = VirtualExecutor(3, (1.0, 2.0), loses=lambda n: n % 3 == 0)
    assert same(run(), run(executor=executor))


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_a_stopped_run_goes_on_with_the_same_bits(tmp_path: Path, n_workers: int) -> None:
    whole = run(topology="torus")
    with pytest.raises(StopRequestedError):
        run(topology="torus", checkpoint_uri=str(tmp_path), progress=stop_after(3))
    rest = run(topology="torus", checkpoint_uri=str(tmp_path), executor=VirtualExecutor(n_workers))
    assert same(whole, rest)
    assert rest.n_new_evals == ROUND * 5
    again = run(topology="torus", checkpoint_uri=str(tmp_path))
    assert same(whole, again)
    assert again.n_new_evals == 0


def test_a_checkpoint_holds_one_state_of_each_island_and_no_pickle(tmp_path: Path) -> None:
    (tmp_path / "state-00000-00001-000000001.safetensors").touch()  # left by a killed run
    (tmp_path / ".x.partial").touch()
    result = run(checkpoint_uri=str(tmp_path), max_batch=1)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names[0] == "checkpoint.json"
    assert names[1] == "migrations.parquet"
    assert [n[:11] for n in names[2:]] == [f"state-{i:05d}" for i in range(6)]
    assert pq.read_table(tmp_path / "migrations.parquet").equals(result.migrations)


@pytest.mark.parametrize(
    "change",
    [{"seed": 6}, {"n_migrants": 1}, {"mode": "async"}, {"topology": "torus"}, {"key": "x"}],
)
def test_a_checkpoint_of_another_search_is_refused(tmp_path: Path, change: Any) -> None:
    run(2, checkpoint_uri=str(tmp_path))
    with pytest.raises(ArtifactError, match="must be of this search"):
        run(2, checkpoint_uri=str(tmp_path), **change)


def test_a_newer_checkpoint_is_refused(tmp_path: Path) -> None:
    run(2, checkpoint_uri=str(tmp_path))
    index = tmp_path / "checkpoint.json"
    index.write_bytes(orjson.dumps({**orjson.loads(index.read_bytes()), "version": 99}))
    with pytest.raises(ArtifactError, match="version 1; got 99"):
        run(2, checkpoint_uri=str(tmp_path))


def test_in_async_a_slow_island_holds_nobody() -> None:
    executor = VirtualExecutor(6, durations=(1.0, 1.0, 1.0, 10.0, 1.0, 1.0))
    result = run(50, mode="async", topology="fully_connected", executor=executor, max_batch=1)
    assert result.n_evals == ROUND * 50
    slow = min(result.rounds)
    others = sorted(result.rounds)[1:]
    assert min(others) >= 9 * slow
    # 5.1 intervals per unit of time: nobody ever waited
    assert executor.opened[0].now == pytest.approx(300 / 5.1, abs=11)


def test_in_async_nobody_pulls_the_same_offer_twice() -> None:
    executor = VirtualExecutor(6, durations=(1.0, 3.0, 7.0))
    table = run(20, mode="async", topology="torus", executor=executor, max_batch=1).migrations
    pulls = [(r["island"], r["source"], r["source_round"]) for r in table.to_pylist()]
    assert len(set(pulls)) == len(pulls) > 0
    assert any(r["source_round"] != r["round"] for r in table.to_pylist())


@settings(max_examples=6, deadline=None)
@given(
    durations=st.lists(st.floats(0.1, 20), min_size=1, max_size=6),
    topology=st.sampled_from(["ring", "random-3", "fully_connected"]),
    max_batch=st.sampled_from([None, 1]),
)
def test_an_async_run_is_replayed_from_its_log_bit_by_bit(
    durations: list[float], topology: str, max_batch: int | None
) -> None:
    executor = VirtualExecutor(3, durations, loses=lambda n: n % 5 == 0)
    first = run(5, mode="async", topology=topology, executor=executor, max_batch=max_batch)
    replayed = run(replay=first.migrations)
    assert same(first, replayed)
    assert replayed.stop_reason == "replay"
    assert same(first, run(replay=first.migrations, executor=VirtualExecutor(2, (5.0, 1.0))))


def test_an_async_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    options = {
        "mode": "async", "topology": "torus", "checkpoint_uri": str(tmp_path), "max_batch": 1,
    }  # fmt: skip
    with pytest.raises(StopRequestedError):
        run(20, **options, executor=VirtualExecutor(2, (1.0, 9.0, 2.0)), progress=stop_after(30))
    before = orjson.loads((tmp_path / "checkpoint.json").read_bytes())["rounds"]
    result = run(20, **options, executor=VirtualExecutor(3, (2.0, 1.0)))
    assert sum(before) >= 29  # the interval under way at the end is all that can be lost
    assert all(a >= b for a, b in zip(result.rounds, before, strict=True))
    assert result.n_evals == ROUND * 20
    assert same(result, run(replay=result.migrations))


def test_migration_helps_and_takeovers_lead_back_to_their_source() -> None:
    alone, together = run(20, topology="unconnected"), run(20, topology="ring")
    assert alone.migrations.num_rows == 0
    assert together.best.fitness.min() > alone.best.fitness.min()
    best = {(h["round"], h["island"]): h["best"] for h in together.history}
    takeovers = [r for r in together.migrations.to_pylist() if r["is_takeover"]]
    assert takeovers
    for row in takeovers:
        assert row["fitness"] == best[row["source_round"], row["source"]]
        assert row["fitness"] > best[row["round"], row["island"]]
        assert best[row["round"] + 1, row["island"]] >= row["fitness"]


def test_a_target_ends_the_run_at_the_same_round_for_any_number_of_workers() -> None:
    first, second = (run(500, target=-0.2, executor=VirtualExecutor(n)) for n in (1, 4))
    assert first.stop_reason == "target"
    assert 1 < first.rounds[0] < 500
    assert same(first, second)
    assert run(target=-0.2, mode="async", max_evals=ROUND * 500).stop_reason == "target"


def test_max_seconds_ends_the_run() -> None:
    for mode in ("sync", "async"):
        result = run(10_000_000, max_seconds=0.05, mode=mode)
        assert result.stop_reason == "max_seconds"
        assert result.wall_s < 5


def test_progress_tells_how_it_goes() -> None:
    seen: list[Message] = []
    run(progress=Progress(seen.append, min_interval_s=0), stage="search")
    assert [m.done for m in seen] == [ROUND * k for k in range(1, 9)]
    assert {m.total for m in seen} == {ROUND * 8}
    fields = ["best", "mean", "diversity", "evals_per_s", "migrations"]
    assert all(list(m.fields) == fields and m.stage == "search" for m in seen)
    assert seen[-1].fields["migrations"] == 7 * len(KINDS)


def test_the_log_is_bounded_and_a_cut_one_cannot_be_replayed(tmp_path: Path) -> None:
    result = run(30, log_rows=50, checkpoint_uri=str(tmp_path))
    assert result.migrations.num_rows == 50
    assert result.migrations["round"].to_pylist()[-1] == 29
    with pytest.raises(ArtifactError, match="first 124 rows were dropped"):
        run(replay=result.migrations)
    with pytest.raises(ArtifactError, match="must be the migration log"):
        run(replay=result.migrations.replace_schema_metadata(None))


@settings(max_examples=30, deadline=None)
@given(
    limit=st.sampled_from([1, 10, 16, 20, 35]),
    batches=st.lists(st.integers(0, 40), min_size=1, max_size=5),
)
def test_a_log_taken_up_from_its_parts_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, limit: int, batches: list[int]
) -> None:
    store = IslandStore(str(tmp_path_factory.mktemp("log")))
    log, memory = MigrationLog(limit, store, part_rows=16), MigrationLog(limit, None)
    k = 0
    for n in batches:
        rows = [Migration(k + i, 0, 1, k + i, 2, 1, -np.inf, False) for i in range(n)]
        k += n
        log.add(rows)
        memory.add(rows)
        log = MigrationLog(limit, store, orjson.loads(orjson.dumps(log.document())), 16)
    assert log.table([k]).equals(memory.table([k]), check_metadata=True)
    assert log.table([k]).num_rows == min(limit, k)


def test_a_long_history_is_thinned_by_rounds_and_keeps_the_last() -> None:
    history = History(limit=10)
    for r in range(1, 102):
        for i in range(2):
            history.add({"round": r, "island": i, "best": float(r)})
    rows = history.rows()
    assert len(rows) <= 2 + 11
    assert {r["round"] for r in rows[-2:]} == {101}
    assert len({r["round"] % 16 for r in rows[:-2]}) == 1
    again = History(10, orjson.loads(orjson.dumps(history.document())))
    assert again.rows() == rows


@given(
    kinds=st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=1, max_size=12),
    rounds=st.integers(0, 1),
    n_workers=st.integers(1, 5),
    max_batch=st.sampled_from([None, 1, 2]),
)
def test_cells_hold_every_island_once_and_only_equals(
    kinds: list[float], rounds: int, n_workers: int, max_batch: int | None
) -> None:
    islands = [Walk(k) for k in kinds]
    at = [i % (rounds + 1) for i in range(len(kinds))]
    cells = cells_of(islands, at, n_workers, max_batch)
    assert sorted(i for c in cells for i in c.islands) == list(range(len(kinds)))
    for cell in cells:
        assert all(islands[i] == cell.kind for i in cell.islands)
        assert len({at[i] for i in cell.islands}) == 1
        assert len(cell.islands) <= (max_batch or len(kinds))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"max_evals": ROUND - 1}, f"one round of all islands = {ROUND}"),
        ({"migrate_every": 0}, "migrate_every"),
        ({"n_migrants": -1}, "n_migrants"),
        ({"mode": "eager"}, "mode must be one of sync, async; got 'eager'"),
        ({"topology": "star"}, "topology must be one of ring, torus, .*; got 'star'"),
        ({"max_batch": 0}, "max_batch"),
        ({"log_rows": 0}, "log_rows"),
    ],
)
def test_bad_settings_are_refused(change: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        run(**change)


def test_no_island_and_a_replay_of_other_islands_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one island"):
        run_islands([], PROBLEM, max_evals=10)
    log = run().migrations
    with pytest.raises(ConfigError, match="of 1 islands; its log has 6"):
        run_islands([Walk(1.0)], PROBLEM, max_evals=1000, replay=log)
    with pytest.raises(ConfigError, match="no checkpoint"):
        run(replay=log, checkpoint_uri=str(tmp_path))
    assert replay_of(log).rounds == (8,) * 6
