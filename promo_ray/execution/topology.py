"""Who sends to whom: the graph of an archipelago, asked island by island and event by event.

An island pulls from its sources. Graphs that are drawn anew at each event draw from a stream keyed
by (seed, event, island), so they are the same in every process and after a resume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from promo_ray.errors import ConfigError
from promo_ray.seeding import stream

NAMES = ("ring", "torus", "fully_connected", "unconnected", "random-K (K = 1, 2, ...)")


class Topology(Protocol):
    """A migration graph; a frozen dataclass, whose repr stands in the key of a checkpoint."""

    def sources(self, n_islands: int, island: int, event: int, seed: int) -> tuple[int, ...]:
        """Islands that `island` pulls from at its migration `event` >= 1, in rising order."""
        ...


@dataclass(frozen=True)
class Ring:
    """Each island pulls from the one before it."""

    def sources(self, n_islands: int, island: int, event: int, seed: int) -> tuple[int, ...]:
        """See `Topology.sources`."""
        return () if n_islands == 1 else ((island - 1) % n_islands,)


@dataclass(frozen=True)
class Torus:
    """Grid with joined edges, as square as the number allows; each pulls from its four neighbors.

    A prime number of islands makes one row: a ring in both directions.
    """

    def sources(self, n_islands: int, island: int, event: int, seed: int) -> tuple[int, ...]:
        """See `Topology.sources`."""
        n_rows = max(k for k in range(1, math.isqrt(n_islands) + 1) if n_islands % k == 0)
        n_columns = n_islands // n_rows
        row, column = divmod(island, n_columns)
        around = {
            (row - 1) % n_rows * n_columns + column,
            (row + 1) % n_rows * n_columns + column,
            row * n_columns + (column - 1) % n_columns,
            row * n_columns + (column + 1) % n_columns,
        }
        return tuple(sorted(around - {island}))


@dataclass(frozen=True)
class FullyConnected:
    """Each island pulls from all others."""

    def sources(self, n_islands: int, island: int, event: int, seed: int) -> tuple[int, ...]:
        """See `Topology.sources`."""
        return tuple(i for i in range(n_islands) if i != island)


@dataclass(frozen=True)
class Unconnected:
    """No island hears of another."""

    def sources(self, n_islands: int, island: int, event: int, seed: int) -> tuple[int, ...]:
        """See `Topology.sources`."""
        return ()


@dataclass(frozen=True)
class RandomK:
    """Each island pulls from `k` others drawn at each event.

    Attributes:
        k: sources per event, >= 1; all others if there are fewer.
    """

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"random-K must have K >= 1; got {self.k}")

    def sources(self, n_islands: int, island: int, event: int, seed: int) -> tuple[int, ...]:
        """See `Topology.sources`."""
        others = np.array([i for i in range(n_islands) if i != island], dtype=np.int64)
        rng = stream(seed, "islands.topology", event, island)
        drawn = rng.choice(others, size=min(self.k, len(others)), replace=False)
        return tuple(sorted(int(i) for i in drawn))


@dataclass(frozen=True)
class Weighted:
    """An own graph: `weights[i][j]` is the chance that island i pulls from j at an event.

    Attributes:
        weights: square, in [0, 1]; the diagonal is not used.
    """

    weights: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        n = len(self.weights)
        if not n or any(len(row) != n for row in self.weights):
            raise ConfigError(f"topology weights must be square; got {n} rows of other lengths")
        if any(not 0 <= w <= 1 for row in self.weights for w in row):
            raise ConfigError("topology weights must be in [0, 1]; they are chances per event")

    def sources(self, n_islands: int, island: int, event: int, seed: int) -> tuple[int, ...]:
        """See `Topology.sources`."""
        if n_islands != len(self.weights):
            raise ConfigError(
                f"topology weights must be of {n_islands} islands; got {len(self.weights)}"
            )
        u = stream(seed, "islands.topology", event, island).random(n_islands)
        chances = self.weights[island]
        return tuple(j for j in range(n_islands) if j != island and u[j] < chances[j])


_NAMED: dict[str, Topology] = {
    "ring": Ring(),
    "torus": Torus(),
    "fully_connected": FullyConnected(),
    "unconnected": Unconnected(),
}


def resolve_topology(spec: str | Topology | Sequence[Sequence[float]] | ArrayLike) -> Topology:
    """Topology of a name, of a matrix of weights, or itself.

    Raises:
        ConfigError: unknown name, or weights that are no square matrix of chances.
    """
    if isinstance(spec, str):
        head, _, tail = spec.partition("-")
        if head == "random" and tail.isdigit():
            return RandomK(int(tail))
        if spec not in _NAMED:
            raise ConfigError(
                f"topology must be one of {', '.join(NAMES)} or a matrix; got {spec!r}"
            )
        return _NAMED[spec]
    if hasattr(spec, "sources"):
        return spec  # type: ignore[return-value]
    try:
        weights = np.asarray(spec, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"topology weights must be numbers: {error}") from error
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
        raise ConfigError(f"topology weights must be square; got shape {weights.shape}")
    return Weighted(tuple(tuple(row) for row in weights.tolist()))
