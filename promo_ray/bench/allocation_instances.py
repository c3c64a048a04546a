"""Seeded allocation instances of ten families, in memory or as memory-mapped files.

An instance is drawn 65,536 users at a time, each chunk from a stream of its own, straight into its
arrays or files: the same numbers either way, and no wide copies.

Letters: n users, m slots, K budgets, O offer rows, S segments, R = K + O + S rows in that order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from promo_ray.seeding import stream

Array = NDArray[Any]
Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, np.random.Generator, int], dict[str, Array]]

CHUNK_USERS = 1 << 16


class Family(NamedTuple):
    """How instances of a family look.

    Attributes:
        draw: arrays of some users, out of a stream of theirs and one that all users share.
        m: slots per user.
        k: budgets.
        n_offers: offer capacity rows.
        n_segments: segment floor rows.
        has_lists: slots are candidate lists out of the offers (`offer_idx`).
        has_capacity_use: pairs use differently much of their offer's row.
        budget_rate: budget as a share of the use when everyone takes the best slot.
        capacity_rate: least and most share of the load of an offer when everyone does.
        floor_rate: least and most share of a segment that must be served.
    """

    draw: Draw
    m: int
    k: int = 0
    n_offers: int = 0
    n_segments: int = 0
    has_lists: bool = False
    has_capacity_use: bool = False
    budget_rate: float = 0.2
    capacity_rate: tuple[float, float] = (0.5, 0.5)
    floor_rate: tuple[float, float] = (0.0, 0.0)


class Case(NamedTuple):
    """One instance: family, number of users, seed."""

    family: str
    n: int
    seed: int = 0

    @property
    def n_bytes(self) -> int:
        """Size of the arrays over users."""
        return sum(
            np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in _shapes(self).values()
        )


class Instance(NamedTuple):
    """Arguments of an `AllocationProblem` of the same names; None where a family has none."""

    value: NDArray[np.float32]
    costs: NDArray[np.float32]
    budgets: Floats
    offer_idx: NDArray[np.int32] | None = None
    capacity: Floats | None = None
    capacity_use: NDArray[np.float32] | None = None
    segment_idx: NDArray[np.int32] | None = None
    floors: Floats | None = None

    def arguments(self) -> dict[str, Array]:
        """What is given, by name."""
        return {k: v for k, v in self._asdict().items() if v is not None}

    def limits(self) -> Floats:
        """`(R,)` right-hand sides."""
        none = np.empty(0)
        more = (self.capacity, self.floors)
        return np.concatenate([self.budgets, *(none if a is None else a for a in more)])


def _dense(rng: np.random.Generator, _: np.random.Generator, n: int) -> dict[str, Array]:
    return {"value": _gamma(rng, n, 10), "costs": _gamma(rng, 5, n, 10)}


def _coupon(rng: np.random.Generator, _: np.random.Generator, n: int) -> dict[str, Array]:
    """Ten face values; the response of each user saturates in the face value."""
    face = np.linspace(0.5, 5.0, 10, dtype=np.float32)
    appetite = 3.0 * rng.random((n, 1), dtype=np.float32) + 0.1
    redeemed = 1.0 - np.exp(-face * (rng.random((n, 1), dtype=np.float32) + 0.1))
    value = redeemed * appetite * (0.5 + rng.random((n, 10), dtype=np.float32))
    return {"value": value, "costs": (redeemed * face)[None]}


def _sparse(rng: np.random.Generator, _: np.random.Generator, n: int) -> dict[str, Array]:
    offer_idx = _distinct(rng.random((n, 20), dtype=np.float32), 10)
    return {"value": _gamma(rng, n, 10), "costs": _gamma(rng, 3, n, 10), "offer_idx": offer_idx}


def _promo(rng: np.random.Generator, shared: np.random.Generator, n: int) -> dict[str, Array]:
    """A campaign: depths with a cost each, segments of unlike worth, one pair in ten excluded."""
    depth = np.sort(shared.uniform(0.5, 2.0, 16)).astype(np.float32)
    segment = np.minimum((8 * rng.random(n) ** 1.5).astype(np.int32), 7)
    worth = np.linspace(0.3, 1.4, 8, dtype=np.float32)[segment, None]
    value = worth * np.sqrt(depth) * _gamma(rng, n, 16) - np.float32(0.4)
    value[rng.random((n, 16), dtype=np.float32) < 0.1] = -np.inf
    costs = _gamma(rng, 3, n, 16)
    costs *= depth
    return {"value": value, "costs": costs, "segment_idx": segment}


def _match(rng: np.random.Generator, shared: np.random.Generator, n: int) -> dict[str, Array]:
    """Generator of the benchmark of DuaLip: use is value times a scale of the offer."""
    breadth = shared.lognormal(0.0, 1.0, 200).astype(np.float32)
    scale = shared.lognormal(0.0, 1.0, 200).astype(np.float32)
    base = shared.lognormal(-4.0, 0.75, 200).astype(np.float32)
    arrival = rng.standard_exponential((n, 200), dtype=np.float32) / breadth
    offer_idx = _distinct(-arrival, 10)  # weighted, without repetition: first ten to arrive
    affinity = np.exp(0.5 * rng.standard_normal((n, 1), dtype=np.float32))
    noise = np.exp(0.5 * rng.standard_normal((n, 10), dtype=np.float32))
    value = np.minimum(base[offer_idx] * affinity * noise, np.float32(0.5))
    return {
        "value": value,
        "costs": np.empty((0, n, 10), np.float32),
        "offer_idx": offer_idx,
        "capacity_use": scale[offer_idx] * value,
    }


def _ties(rng: np.random.Generator, _: np.random.Generator, n: int) -> dict[str, Array]:
    value = rng.integers(1, 5, (n, 10)).astype(np.float32)
    return {"value": value, "costs": rng.integers(1, 4, (2, n, 10)).astype(np.float32)}


def _heavy(rng: np.random.Generator, _: np.random.Generator, n: int) -> dict[str, Array]:
    value, *costs = (
        np.expm1(rng.standard_exponential((n, 10), dtype=np.float32) / np.float32(1.3))
        for _ in range(3)
    )
    return {"value": value, "costs": np.stack(costs)}


def _free(rng: np.random.Generator, _: np.random.Generator, n: int) -> dict[str, Array]:
    value, costs = _gamma(rng, n, 10), _gamma(rng, 2, n, 10)
    value[:, :2] *= np.float32(0.3)
    costs[:, :, :2] = 0.0
    return {"value": value, "costs": costs}


def _floors(rng: np.random.Generator, _: np.random.Generator, n: int) -> dict[str, Array]:
    """Most offers lose money, and most users must be served all the same."""
    value = rng.standard_normal((n, 10), dtype=np.float32) - np.float32(1.5)
    segment = rng.integers(0, 5, n, dtype=np.int32)
    return {"value": value, "costs": _gamma(rng, 1, n, 10), "segment_idx": segment}


def _offsets(rng: np.random.Generator, _: np.random.Generator, n: int) -> dict[str, Array]:
    return {"value": np.float32(1e4) + _gamma(rng, n, 10), "costs": _gamma(rng, 2, n, 10)}


FAMILIES: Mapping[str, Family] = {
    "coupon": Family(_coupon, m=10, k=1, budget_rate=0.3),
    "dense": Family(_dense, m=10, k=5),
    "sparse": Family(_sparse, m=10, k=3, n_offers=20, has_lists=True, budget_rate=0.3),
    "promo": Family(
        _promo, m=16, k=3, n_offers=16, n_segments=8, budget_rate=0.2, floor_rate=(0.25, 0.35)
    ),
    "match": Family(
        _match, m=10, n_offers=200, has_lists=True, has_capacity_use=True, capacity_rate=(0.5, 1.0)
    ),
    "ties": Family(_ties, m=10, k=2, budget_rate=0.3),
    "heavy": Family(_heavy, m=10, k=2),
    "free": Family(_free, m=10, k=2),
    "floors": Family(_floors, m=10, k=1, n_segments=5, floor_rate=(0.5, 0.7)),
    "offsets": Family(_offsets, m=10, k=2),
}


def n_rows(case: Case) -> int:
    """Budgets, offer capacities and segment floors of a case together."""
    family = FAMILIES[case.family]
    return family.k + family.n_offers + family.n_segments


def generate(case: Case) -> Instance:
    """The instance of a case, in memory."""
    arrays: dict[str, Array] = {
        name: np.empty(shape, dtype) for name, (dtype, shape) in _shapes(case).items()
    }
    arrays.update(_fill(case, arrays))
    return Instance(**arrays)


def write(case: Case, directory: Path) -> None:
    """Write the instance of a case as one `.npy` file per argument; memory stays small."""
    directory.mkdir(parents=True)
    arrays: dict[str, Array] = {
        name: open_memmap(directory / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
        for name, (dtype, shape) in _shapes(case).items()
        if math.prod(shape)
    }
    if "costs" not in arrays:  # a file of no bytes cannot be mapped
        arrays["costs"] = np.empty(_shapes(case)["costs"][1], np.float32)
        np.save(directory / "costs.npy", arrays["costs"])
    for name, limit in _fill(case, arrays).items():
        np.save(directory / f"{name}.npy", limit)


def read(directory: Path, is_mapped: bool = False) -> Instance:
    """The instance that `write` wrote; mapped, its arrays over users stay on disk."""
    found = {}
    for name in Instance._fields:
        path = directory / f"{name}.npy"
        if path.exists():
            can_map = is_mapped and path.stat().st_size > 1 << 20
            found[name] = np.load(path, mmap_mode="r" if can_map else None)
    return Instance(**found)


def _shapes(case: Case) -> dict[str, tuple[type[Any], tuple[int, ...]]]:
    family, n = FAMILIES[case.family], case.n
    shapes: dict[str, tuple[type[Any], tuple[int, ...]]] = {
        "value": (np.float32, (n, family.m)),
        "costs": (np.float32, (family.k, n, family.m)),
    }
    if family.has_lists:
        shapes["offer_idx"] = (np.int32, (n, family.m))
    if family.has_capacity_use:
        shapes["capacity_use"] = (np.float32, (n, family.m))
    if family.n_segments:
        shapes["segment_idx"] = (np.int32, (n,))
    return shapes


def _fill(case: Case, arrays: Mapping[str, Array]) -> dict[str, Floats]:
    """Draw all users into the arrays; limits follow from what they would use."""
    family = FAMILIES[case.family]
    name = ("bench.allocation", case.family)
    budgets, load = np.zeros(family.k), np.zeros(family.n_offers)
    members = np.zeros(family.n_segments)
    for a in range(0, case.n, CHUNK_USERS):
        n = min(CHUNK_USERS, case.n - a)
        part = family.draw(stream(case.seed, *name, a), stream(case.seed, *name), n)
        for key, drawn in part.items():
            target = arrays[key]
            (target[:, a : a + n] if key == "costs" else target[a : a + n])[...] = drawn
        user = np.arange(n)
        taken = part.get("capacity_use", part["value"]).argmax(axis=1)
        budgets += part["costs"][:, user, taken].sum(axis=1, dtype=np.float64)
        if family.n_offers:
            offer = part["offer_idx"][user, taken] if family.has_lists else taken
            use = part["capacity_use"][user, taken] if family.has_capacity_use else None
            load += np.bincount(offer, weights=use, minlength=family.n_offers)
        if family.n_segments:
            members += np.bincount(part["segment_idx"], minlength=family.n_segments)
    rng = stream(case.seed, *name, "limits")
    limits = {"budgets": family.budget_rate * budgets}
    if family.n_offers:
        capacity = rng.uniform(*family.capacity_rate, family.n_offers) * load
        limits["capacity"] = capacity if family.has_capacity_use else np.floor(capacity)
    if family.n_segments:
        limits["floors"] = np.floor(rng.uniform(*family.floor_rate, family.n_segments) * members)
    return limits


def _gamma(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return rng.standard_gamma(2.0, shape, dtype=np.float32)


def _distinct(keys: NDArray[np.float32], m: int) -> NDArray[np.int32]:
    """Columns of the m largest keys of each row."""
    return np.argpartition(keys, -m, axis=1)[:, -m:].astype(np.int32)
