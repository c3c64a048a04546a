"""The island loop: populations evolve apart for some generations, then exchange their best.

States are plain arrays. They travel with each round, so a lost worker costs nothing but the
repeat of its round, and a checkpoint is the states of all islands after a round. Random numbers
are keyed by (seed, island, generation): a resumed run ends with the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import orjson
import pyarrow.fs as pafs
from numpy.typing import NDArray
from safetensors.numpy import load, save

from promo_ray.artifacts.files import open_filesystem
from promo_ray.errors import ArtifactError, ConfigError
from promo_ray.execution.executor import Executor, SerialExecutor
from promo_ray.telemetry import SILENT, Progress

IslandState = Mapping[str, NDArray[Any]]


class Migrants(NamedTuple):
    """Individuals that travel: genes `(n, genes)` and fitness `(n,)`."""

    x: NDArray[Any]
    fitness: NDArray[Any]


class Island(Protocol):
    """One population and its method; picklable, pure functions of arrays."""

    def init(self, problem: Any, seed: int, index: int) -> IslandState:
        """First state of island `index`."""
        ...

    def step(self, problem: Any, state: IslandState, n_generations: int) -> IslandState:
        """State after further generations."""
        ...

    def emigrants(self, state: IslandState, n: int) -> Migrants:
        """Copies of individuals that leave."""
        ...

    def immigrate(self, state: IslandState, migrants: Migrants) -> IslandState:
        """State after taking in migrants."""
        ...

    def summary(self, state: IslandState) -> dict[str, float]:
        """Scalars of the history: at least `best`, `mean`, `diversity`, `n_evals`."""
        ...


@dataclass(frozen=True)
class IslandRun:
    """Outcome of `run_islands`.

    Attributes:
        states: last state of each island.
        history: one entry per round and island: round, island and the island's summary.
        n_rounds: rounds done in all, those before a resume included.
    """

    states: tuple[IslandState, ...]
    history: tuple[dict[str, float], ...]
    n_rounds: int


class _Round(NamedTuple):
    state: IslandState
    emigrants: Migrants
    summary: dict[str, float]


def _begin(problem: Any, seed: int, island: tuple[int, Island]) -> IslandState:
    index, method = island
    return method.init(problem, seed, index)


def _advance(
    problem: Any,
    n_generations: int,
    n_migrants: int,
    own: tuple[Island, IslandState, Migrants | None],
) -> _Round:
    method, state, migrants = own
    if migrants is not None:
        state = method.immigrate(state, migrants)
    state = method.step(problem, state, n_generations)
    return _Round(state, method.emigrants(state, n_migrants), method.summary(state))


def run_islands(
    islands: Sequence[Island],
    problems: Sequence[Any],
    *,
    n_rounds: int,
    migrate_every: int = 10,
    n_migrants: int = 2,
    seed: int = 0,
    executor: Executor | None = None,
    checkpoint_uri: str | None = None,
    progress: Progress = SILENT,
    stage: str = "islands",
) -> IslandRun:
    """Evolve islands on a ring with migration at fixed generations.

    Args:
        islands: one per population; methods may differ.
        problems: what each island evaluates on: a value or a callable that reads it in the
            worker; one per island.
        n_rounds: rounds of `migrate_every` generations.
        migrate_every: generations between migrations, >= 1.
        n_migrants: individuals that go to the next island of the ring per migration.
        seed: seed of the run.
        executor: where to run; this process if None.
        checkpoint_uri: directory for checkpoints; a run that finds one there goes on from it.
        progress: told rounds done, best and mean fitness.
        stage: name in progress messages.

    Returns:
        The same bits for every executor, number of workers, and after a resume.

    Raises:
        ConfigError: no island, unequal lengths, or a number below its minimum.
    """
    if not islands or len(islands) != len(problems):
        raise ConfigError(
            f"islands and problems must be as many, at least 1; got {len(islands)}, {len(problems)}"
        )
    if n_rounds < 1 or migrate_every < 1 or n_migrants < 0:
        raise ConfigError(
            "n_rounds >= 1, migrate_every >= 1 and n_migrants >= 0 must hold; "
            f"got {n_rounds}, {migrate_every}, {n_migrants}"
        )
    resident = (executor or SerialExecutor()).load(problems)
    checkpoint = None if checkpoint_uri is None else _Checkpoint(checkpoint_uri)
    key = f"{seed} {migrate_every} {n_migrants} " + " ".join(repr(i) for i in islands)
    try:
        found = checkpoint.load(key, len(islands)) if checkpoint else None
        if found is None:
            states = resident.map(_begin, seed, each=list(enumerate(islands)))
            arrivals: list[Migrants | None] = [None] * len(islands)
            done = 0
            history: list[dict[str, float]] = []
        else:
            states, arrivals, done, history = found
        while done < n_rounds:
            own = list(zip(islands, states, arrivals, strict=True))
            rounds = resident.map(_advance, migrate_every, n_migrants, each=own)
            states = [r.state for r in rounds]
            ring = [rounds[i - 1].emigrants for i in range(len(rounds))]
            arrivals = [m if n_migrants and len(rounds) > 1 else None for m in ring]
            done += 1
            history += [{"round": done, "island": i, **r.summary} for i, r in enumerate(rounds)]
            if checkpoint:
                checkpoint.save(key, states, arrivals, done, history)
            best = max(r.summary["best"] for r in rounds)
            mean = float(np.mean([r.summary["mean"] for r in rounds]))
            progress(stage, done, n_rounds, best=best, mean=mean)
    finally:
        resident.release()
    return IslandRun(tuple(states), tuple(history), done)


class _Checkpoint:
    """States after a round: one safetensors file per round, named by a JSON written last."""

    def __init__(self, uri: str) -> None:
        self._fs, self._root = open_filesystem(uri)
        self._fs.create_dir(self._root, recursive=True)

    def save(
        self,
        key: str,
        states: Sequence[IslandState],
        arrivals: Sequence[Migrants | None],
        done: int,
        history: list[dict[str, float]],
    ) -> None:
        arrays = {
            f"{i}/state/{k}": np.asarray(v) for i, s in enumerate(states) for k, v in s.items()
        }
        for i, m in enumerate(arrivals):
            if m is not None:
                arrays |= {f"{i}/arrivals/x": m.x, f"{i}/arrivals/fitness": m.fitness}
        name = f"round-{done:06d}.safetensors"
        contiguous = {k: np.ascontiguousarray(v) for k, v in arrays.items()}
        self._write(name, save(contiguous))
        self._write(
            "checkpoint.json",
            orjson.dumps({"key": key, "file": name, "n_rounds": done, "history": history}),
        )
        for info in self._fs.get_file_info(pafs.FileSelector(self._root)):
            if info.base_name.startswith("round-") and info.base_name != name:
                self._fs.delete_file(info.path)

    def _write(self, name: str, raw: bytes) -> None:
        with self._fs.open_output_stream(f"{self._root}/.{name}.partial") as sink:
            sink.write(raw)
        self._fs.move(f"{self._root}/.{name}.partial", f"{self._root}/{name}")

    def load(
        self, key: str, n_islands: int
    ) -> tuple[list[IslandState], list[Migrants | None], int, list[dict[str, float]]] | None:
        path = f"{self._root}/checkpoint.json"
        if self._fs.get_file_info(path).type != pafs.FileType.File:
            return None
        with self._fs.open_input_stream(path) as source:
            index = orjson.loads(source.read())
        if index["key"] != key:
            raise ArtifactError(
                f"checkpoint {path} must be of this search; it has other islands or another seed"
            )
        with self._fs.open_input_stream(f"{self._root}/{index['file']}") as source:
            arrays = load(source.read())
        states: list[IslandState] = []
        arrivals: list[Migrants | None] = []
        for i in range(n_islands):
            prefix = f"{i}/state/"
            states.append({k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)})
            x, fitness = arrays.get(f"{i}/arrivals/x"), arrays.get(f"{i}/arrivals/fitness")
            arrivals.append(None if x is None else Migrants(x, fitness))
        return states, arrivals, index["n_rounds"], index["history"]
