"""The island loop: populations evolve apart for some generations, then exchange individuals.

One loop for three modes, which differ in who may start when and in what an island pulls:

- `sync`: all islands go an interval, then all pull what their sources had at its end;
- `async`: an island that is done pulls what its sources had last and goes on, waiting for nobody;
- a replay: an island pulls what the log of another run says, as soon as it is there.

What an island does in an interval is a pure function of its state and of whom it pulled. So a
lost worker costs the repeat of the intervals it had under way, and a log replays a run bit by bit.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from promo_ray.errors import ArtifactError, ConfigError
from promo_ray.execution.executor import Executor, SerialExecutor
from promo_ray.execution.islands_driver import Driver, Plan
from promo_ray.execution.islands_keeper import Cell, IslandKeeper, IslandKind, Migrants
from promo_ray.execution.islands_log import History, MigrationLog, Record, replay_of
from promo_ray.execution.islands_store import LOG, IslandStore
from promo_ray.execution.topology import Topology, resolve_topology
from promo_ray.telemetry import SILENT, Progress

MODES = ("sync", "async")


@dataclass(frozen=True)
class IslandRun:
    """Outcome of `run_islands`.

    Attributes:
        best: `(islands, 1, genes)` best of each island as NumPy arrays.
        history: one entry per round and island: round, island, n_evals, best, mean, diversity and
            violation of the best; thinned by halves beyond 10,000 entries.
        rounds: intervals of each island, those before a resume included.
        n_evals: evaluations of all islands.
        n_new_evals: those of this call.
        migrations: the last rows of the migration log, see `islands_log.MIGRATIONS`; give it as
            `replay` to repeat the run.
        stop_reason: `max_evals`, `target`, `max_seconds` or `replay`.
        wall_s: seconds that this call took.
        busy_s: seconds that workers were occupied, summed.
    """

    best: Migrants
    history: tuple[dict[str, float], ...]
    rounds: tuple[int, ...]
    n_evals: int
    n_new_evals: int
    migrations: pa.Table
    stop_reason: str
    wall_s: float
    busy_s: float


class RunRecord(NamedTuple):
    """What a checkpoint tells of a run, finished or not; see `IslandRun`."""

    history: tuple[dict[str, float], ...]
    rounds: tuple[int, ...]
    migrations: pa.Table


def read_record(uri: str) -> RunRecord:
    """History and migrations of the run that keeps its checkpoint at a URI; nothing is changed.

    Raises:
        ArtifactError: there is no checkpoint, or it is of another version.
    """
    store = IslandStore(uri)
    index = store.peek()
    if index is None:
        raise ArtifactError(f"there must be a checkpoint of islands at {uri}; there is none")
    log = MigrationLog(max(1, index.log["n_total"]), store, index.log)
    history = History(saved=index.history)
    return RunRecord(history.rows(), tuple(index.rounds), log.table(index.rounds))


def cells_of(
    islands: Sequence[IslandKind[Any]],
    rounds: Sequence[int],
    n_workers: int,
    max_batch: int | None = None,
) -> list[Cell]:
    """Islands in batches: equal kinds that stand at the same round, spread over the workers.

    Args:
        islands: kind of each island.
        rounds: intervals that each has behind it.
        n_workers: each kind is cut into as many batches, if it has as many islands.
        max_batch: islands in a batch at most.
    """
    groups: list[tuple[IslandKind[Any], int, list[int]]] = []
    for i, (kind, at_round) in enumerate(zip(islands, rounds, strict=True)):
        for known, known_round, members in groups:
            if known == kind and known_round == at_round:
                members.append(i)
                break
        else:
            groups.append((kind, at_round, [i]))
    cells = []
    for kind, _, members in groups:
        n = len(members)
        n_batches = min(n, max(n_workers, -(-n // (max_batch or n))))
        bounds = [n * k // n_batches for k in range(n_batches + 1)]
        cells += [Cell(kind, tuple(members[bounds[k] : bounds[k + 1]])) for k in range(n_batches)]
    return cells


def run_islands(
    islands: Sequence[IslandKind[Any]],
    problem: Any,
    *,
    max_evals: int,
    mode: str = "sync",
    topology: str | Topology | Sequence[Sequence[float]] = "ring",
    migrate_every: int = 10,
    n_migrants: int = 2,
    seed: int = 0,
    executor: Executor | None = None,
    checkpoint_uri: str | None = None,
    key: str = "",
    target: float | None = None,
    max_seconds: float | None = None,
    max_batch: int | None = None,
    log_rows: int = 100_000,
    replay: pa.Table | None = None,
    progress: Progress = SILENT,
    stage: str = "islands",
) -> IslandRun:
    """Evolve islands with migration between them.

    Args:
        islands: kind of each island; islands of equal kind share a batch in a worker.
        problem: what islands evaluate on, or a callable that reads it in the worker.
        max_evals: evaluations at most over all islands, in whole intervals; at least one interval
            of all islands. `async` gives them to whoever is free.
        mode: `sync` or `async`, see above.
        topology: a name of `topology.NAMES`, an own matrix of chances, or an object.
        migrate_every: generations of an interval.
        n_migrants: individuals that an island offers at the end of an interval; 0 = none.
        seed: seed of the run.
        executor: where to run; this process if None.
        checkpoint_uri: directory for the states after every interval, written where they were
            computed; a run that finds a checkpoint there goes on from it. Without one, a worker on
            another machine sends states to the driver, which keeps the last of each island.
        key: what else the search depends on; a checkpoint of another key is refused.
        target: stop when a feasible best reaches this.
        max_seconds: start no interval after this many seconds of this call; where it stops
            depends on the machine.
        max_batch: islands in one call at most; all equal ones of a worker if None.
        log_rows: rows of the migration log that are kept.
        replay: log of a run with the same settings; its migrations are repeated in place of
            `mode`, `topology` and `max_evals`.
        progress: told evaluations, best, mean and diversity over islands, evaluations per second
            and migrations so far.
        stage: name in progress messages.

    Returns:
        In `sync` and a replay the same bits for every executor, number of workers, batch, loss
        of workers, and after a resume.

    Raises:
        ConfigError: no island, an unknown mode or topology, or a number out of range.
        ArtifactError: a checkpoint of another search, or a log that cannot be replayed.
    """
    record = None if replay is None else replay_of(replay)
    _check(islands, record, mode, migrate_every, n_migrants, max_batch, checkpoint_uri)
    graph = resolve_topology(topology)
    graph.sources(len(islands), 0, 1, seed)  # refuses weights of other islands before work begins
    full_key = " ".join([key, mode, repr(graph), str((seed, migrate_every, n_migrants))])
    full_key = " ".join([full_key, *map(repr, islands)])
    store = None if checkpoint_uri is None else IslandStore(checkpoint_uri)
    found = None if store is None else store.read_index(full_key, len(islands))
    rounds = [0] * len(islands) if found is None else found.rounds
    files = [""] * len(islands) if found is None else found.files
    executor = executor or SerialExecutor()
    batch = 1 if record is not None else max_batch  # islands of a batch go in step
    cells = cells_of(islands, rounds, executor.n_workers, batch)
    keeper = functools.partial(IslandKeeper, cells, problem, seed, n_migrants, store)
    plan = Plan(
        full_key, mode, graph, seed, migrate_every, n_migrants, max_evals, target, max_seconds,
        record,
    )  # fmt: skip
    _check_budget(plan, cells)
    log = MigrationLog(log_rows, store, None if found is None else found.log)
    history = History(saved=None if found is None else found.history)
    hosted = executor.cells(keeper, _tokens(cells, files), [plan.cost(cell) for cell in cells])
    driver = Driver(plan, cells, hosted, rounds, files, log, history, store, progress, stage)
    try:
        driver.run(is_resumed=found is not None)
    finally:
        hosted.release()
    migrations = log.table(driver.rounds)
    if store is not None:
        store.write_log(LOG, migrations)
    return IslandRun(
        best=driver.best(),
        history=history.rows(),
        rounds=tuple(driver.rounds),
        n_evals=driver.n_evals,
        n_new_evals=driver.n_new_evals,
        migrations=migrations,
        stop_reason=driver.stop_reason,
        wall_s=driver.seconds(),
        busy_s=driver.busy_s,
    )


def _tokens(cells: Sequence[Cell], files: Sequence[str]) -> list[list[str] | None]:
    """Files of each cell's islands; None = an island has not begun, and with it its whole cell."""
    return [[files[i] for i in c.islands] if files[c.islands[0]] else None for c in cells]


def _check(
    islands: Sequence[IslandKind[Any]],
    record: Record | None,
    mode: str,
    migrate_every: int,
    n_migrants: int,
    max_batch: int | None,
    checkpoint_uri: str | None,
) -> None:
    if not islands:
        raise ConfigError("islands must hold at least one island; got none")
    if mode not in MODES:
        raise ConfigError(f"mode must be one of {', '.join(MODES)}; got {mode!r}")
    if migrate_every < 1 or n_migrants < 0:
        raise ConfigError(
            f"migrate_every >= 1 and n_migrants >= 0 must hold; got {migrate_every}, {n_migrants}"
        )
    if max_batch is not None and max_batch < 1:
        raise ConfigError(f"max_batch must be >= 1; got {max_batch}")
    if record is not None and len(record.rounds) != len(islands):
        raise ConfigError(
            f"replay must be of {len(islands)} islands; its log has {len(record.rounds)}"
        )
    if record is not None and checkpoint_uri is not None:
        raise ConfigError("a replay keeps no checkpoint; checkpoint_uri must be None")


def _check_budget(plan: Plan, cells: Sequence[Cell]) -> None:
    least = sum(plan.cost(cell) for cell in cells)
    if plan.record is None and plan.max_evals < least:
        raise ConfigError(
            f"max_evals must be >= one round of all islands = {least}; got {plan.max_evals}"
        )
