"""Small islands and executors for tests of the island loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from promo_ray.execution import Done, Keeper
from promo_ray.execution.islands_keeper import Migrants, Summary
from promo_ray.seeding import stream


class State(NamedTuple):
    x: np.ndarray  # (islands, 4, 2)
    f: np.ndarray  # (islands, 4)
    islands: tuple[int, ...]
    seed: int
    t: int


def _fitness(problem: np.ndarray, x: np.ndarray) -> np.ndarray:
    return -np.abs(x - problem).sum(axis=-1)


@dataclass(frozen=True)
class Walk:
    """Random hill climbing on -|x - problem|: sensitive to any change of its random numbers."""

    step_size: float

    def evals(self, n_generations: int) -> int:
        return 4 * n_generations

    def init(self, problem: np.ndarray, seed: int, islands: Sequence[int]) -> State:
        x = np.stack([stream(seed, "walk", i, 0).normal(size=(4, 2)) * 5 for i in islands])
        return State(x, _fitness(problem, x), tuple(islands), seed, 0)

    def step(self, problem: np.ndarray, state: State, n_generations: int) -> State:
        x, f, islands, seed, t = state
        for _ in range(n_generations):
            t += 1
            noise = np.stack([stream(seed, "walk", i, t).normal(size=(4, 2)) for i in islands])
            y = x + self.step_size * noise
            better = _fitness(problem, y) > f
            x = np.where(better[..., None], y, x)
            f = _fitness(problem, x)
        return State(x, f, islands, seed, t)

    def emigrants(self, state: State, n: int) -> Migrants:
        order = np.argsort(-state.f, axis=1, kind="stable")[:, :n]
        x = np.take_along_axis(state.x, order[..., None], 1)
        f = np.take_along_axis(state.f, order, 1)
        return Migrants(x, f, np.zeros_like(f))

    def immigrate(
        self, state: State, own: Migrants, others: Migrants | None, rows: np.ndarray
    ) -> tuple[State, np.ndarray]:
        pool_x, pool_f = own.x.reshape(-1, 2), own.fitness.reshape(-1)
        if others is not None:
            pool_x = np.concatenate([pool_x, others.x])
            pool_f = np.concatenate([pool_f, others.fitness])
        x, f = state.x.copy(), state.f.copy()
        fates = np.zeros(rows.shape, dtype=np.int8)
        for b, k in zip(*np.nonzero(rows >= 0), strict=True):
            worst = int(np.argmin(f[b]))
            if pool_f[rows[b, k]] > f[b, worst]:
                fates[b, k] = 2 if pool_f[rows[b, k]] > f[b].max() else 1
                x[b, worst], f[b, worst] = pool_x[rows[b, k]], pool_f[rows[b, k]]
        return state._replace(x=x, f=f), fates

    def best(self, state: State) -> Migrants:
        return self.emigrants(state, 1)

    def summaries(self, state: State) -> list[Summary]:
        return [Summary(float(f.max()), float(f.mean()), 0.0, 0.0) for f in state.f]

    def split(self, state: State) -> list[dict[str, np.ndarray]]:
        return [
            {"x": state.x[b], "f": state.f[b], "clock": np.array([state.seed, state.t])}
            for b in range(len(state.islands))
        ]

    def join(self, parts: Sequence[Any], islands: Sequence[int]) -> State:
        seed, t = parts[0]["clock"].tolist()
        x, f = (np.stack([part[k] for part in parts]) for k in "xf")
        return State(x, f, tuple(islands), seed, t)


@dataclass
class VirtualCells:
    """Cells in virtual time: a call of cell c takes `durations[c]`; workers may be lost."""

    keeper: Any
    tokens: list[Any]
    durations: Sequence[float]
    loses: Any  # (call number) -> bool: the keeper forgets all before this call
    now: float = 0.0
    calls: list[tuple[float, int, Any]] = field(default_factory=list)
    n_calls: int = 0

    def __post_init__(self) -> None:
        self.alive: Keeper = self.keeper()

    def submit(self, cell: int, order: Any) -> None:
        self.calls.append((self.now + self.durations[cell % len(self.durations)], cell, order))

    def collect(self) -> list[Done]:
        first = min(self.calls, key=lambda call: call[:2])
        self.calls.remove(first)
        self.now, cell, order = first
        self.n_calls += 1
        if self.loses(self.n_calls):
            self.alive = self.keeper()
        answer = self.alive.advance(cell, lambda: self.tokens[cell], order)
        self.tokens[cell] = self.alive.token(cell)
        return [Done(cell, answer, 0.0)]

    def release(self) -> None:
        self.calls = []


def never(_call: int) -> bool:
    return False


@dataclass
class VirtualExecutor:
    n_workers: int = 2
    durations: Sequence[float] = (1.0,)
    loses: Any = never
    opened: list[VirtualCells] = field(default_factory=list)

    def cells(self, keeper: Any, tokens: Sequence[Any], costs: Sequence[float]) -> VirtualCells:
        made = VirtualCells(keeper, list(tokens), self.durations, self.loses)
        self.opened.append(made)
        return made
