"""The worker side of the island loop: batches of equal islands between two migrations.

A cell is a batch of islands of one kind. Emigrants of islands of the same cell never leave it:
they move by an index permutation. Only what other cells pull from it is handed out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from promo_ray.execution.executor import read_source
from promo_ray.execution.islands_store import IslandStore

S = TypeVar("S")
Arrays = Mapping[str, NDArray[Any]]


class Migrants(NamedTuple):
    """Individuals that travel.

    Attributes:
        x: `(*batch, n, genes)`.
        fitness: `(*batch, n)`; -inf = nobody.
        violation: `(*batch, n)` >= 0; 0 = feasible.
    """

    x: Any
    fitness: Any
    violation: Any


class Summary(NamedTuple):
    """What the history tells of one island; best and its violation are those of its best."""

    best: float
    mean: float
    diversity: float
    violation: float
    is_constrained: bool = False


class IslandKind(Protocol[S]):
    """A method of islands: pure functions over the state of a batch; picklable.

    The state of a batch of islands and each of these states alone must give the same bits. The
    repr stands in the key of a checkpoint.
    """

    def evals(self, n_generations: int) -> int:
        """Evaluations that one island makes in so many generations."""
        ...

    def init(self, problem: Any, seed: int, islands: Sequence[int]) -> S:
        """First state of the islands with these numbers."""
        ...

    def step(self, problem: Any, state: S, n_generations: int) -> S:
        """State after further generations."""
        ...

    def emigrants(self, state: S, n: int) -> Migrants:
        """Copies of `n` individuals of each island, `(islands, n, genes)`."""
        ...

    def immigrate(
        self, state: S, own: Migrants, others: Migrants | None, rows: NDArray[np.int64]
    ) -> tuple[S, NDArray[np.int8]]:
        """State after migration within the batch and from outside.

        Args:
            state: of the batch.
            own: `(islands, n, genes)` emigrants of the batch itself.
            others: `(k, genes)` emigrants of other islands as NumPy arrays, or None.
            rows: `(islands, m)` who comes: rows of `own` flattened to `(islands * n, genes)`
                with `others` after them; -1 = nobody.

        Returns:
            The state, and `(islands, m)` what became of each: 0 = turned away, 1 = taken in,
            2 = taken in and better than all who were there.
        """
        ...

    def best(self, state: S) -> Migrants:
        """The best of each island as NumPy arrays, `(islands, 1, genes)`."""
        ...

    def summaries(self, state: S) -> list[Summary]:
        """Scalars of each island."""
        ...

    def split(self, state: S) -> list[Arrays]:
        """Arrays of each island, C-contiguous."""
        ...

    def join(self, parts: Sequence[Arrays], islands: Sequence[int]) -> S:
        """State of a batch of islands from their arrays."""
        ...


class Cell(NamedTuple):
    """A batch of islands of one kind that one worker advances together."""

    kind: IslandKind[Any]
    islands: tuple[int, ...]


class Order(NamedTuple):
    """One call of a cell.

    Attributes:
        at_round: intervals that the cell has behind it.
        n_generations: generations to go; 0 = only tell where it stands.
        rows: see `IslandKind.immigrate`; None = nobody comes.
        others: emigrants of other cells.
        is_sending: whether to hand out emigrants.
    """

    at_round: int
    n_generations: int
    rows: NDArray[np.int64] | None = None
    others: Migrants | None = None
    is_sending: bool = False


class Answer(NamedTuple):
    """What a cell tells after a call.

    Attributes:
        at_round: intervals that the cell has behind it now.
        summaries: one per island.
        best: `(islands, 1, genes)` best of each island.
        emigrants: `(islands, n, genes)` if they were to be handed out.
        fates: `(islands, m)` int8, see `IslandKind.immigrate`; None if nobody came.
        fitness: `(islands, m)` float64 of those who came.
    """

    at_round: int
    summaries: list[Summary]
    best: Migrants
    emigrants: Migrants | None
    fates: NDArray[np.int8] | None
    fitness: NDArray[np.float64] | None


class _Held(NamedTuple):
    at_round: int
    state: Any
    emigrants: Migrants
    files: list[str]  # of the islands, where a store is used


def as_numpy(migrants: Migrants) -> Migrants:
    """Migrants as NumPy arrays, from tensors of any device."""
    return Migrants(*(np.asarray(a.cpu() if hasattr(a, "cpu") else a) for a in migrants))


class IslandKeeper:
    """A `cells.Keeper` of islands. A token is the arrays of each island, or names of their files.

    Args:
        cells: all cells of the run.
        problem: what islands evaluate on, or a callable that reads it here.
        seed: seed of the run.
        n_migrants: emigrants of an island per migration.
        store: where states are written after each call; None = tokens carry them.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        problem: Any,
        seed: int,
        n_migrants: int,
        store: IslandStore | None,
    ) -> None:
        self._cells = cells
        self._problem = read_source(problem)
        self._seed = seed
        self._n_migrants = n_migrants
        self._store = store
        self._held: dict[int, _Held] = {}

    def advance(self, cell: int, restore: Callable[[], Any], order: Order) -> Answer:
        """See `cells.Keeper.advance`."""
        kind = self._cells[cell].kind
        held = self._held.get(cell)
        if held is None or held.at_round != order.at_round:
            held = self._restored(cell, restore, order.at_round)
        state, fates, fitness = held.state, None, None
        if order.rows is not None:
            state, fates = kind.immigrate(state, held.emigrants, order.others, order.rows)
            fitness = _fitness_of(held.emigrants, order)
        if order.n_generations:
            state = kind.step(self._problem, state, order.n_generations)
            held = self._stepped(cell, state, order.at_round + 1)
        self._held[cell] = held
        sent = as_numpy(held.emigrants) if order.is_sending else None
        best = as_numpy(kind.best(state))
        return Answer(held.at_round, kind.summaries(state), best, sent, fates, fitness)

    def token(self, cell: int) -> Any:
        """See `cells.Keeper.token`."""
        held = self._held[cell]
        if self._store is not None:
            return held.files
        return self._cells[cell].kind.split(held.state)

    def _stepped(self, cell: int, state: Any, at_round: int) -> _Held:
        kind, islands = self._cells[cell]
        files: list[str] = []
        if self._store is not None:
            name = self._store.write_states(islands, at_round, kind.split(state))
            files = [name] * len(islands)
        return _Held(at_round, state, kind.emigrants(state, self._n_migrants), files)

    def _restored(self, cell: int, restore: Callable[[], Any], at_round: int) -> _Held:
        kind, islands = self._cells[cell]
        token = restore()
        if token is None:
            state = kind.init(self._problem, self._seed, islands)
        elif self._store is not None:
            state = kind.join(self._store.read_states(token, islands), islands)
        else:
            state = kind.join(token, islands)
        files = token if self._store is not None and token is not None else []
        return _Held(at_round, state, kind.emigrants(state, self._n_migrants), files)


def _fitness_of(own: Migrants, order: Order) -> NDArray[np.float64]:
    known = as_numpy(own).fitness.reshape(-1)
    parts = [known] if order.others is None else [known, order.others.fitness]
    every = np.append(np.concatenate(parts).astype(np.float64), -np.inf)
    return np.asarray(every[order.rows])
