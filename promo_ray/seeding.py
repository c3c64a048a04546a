"""Counter-based random streams keyed by a seed and names; no global state anywhere.

`stream` gives one generator per (seed, name, block or island, step). `uniforms` and `normals`
give numbers that belong to a key (a user, say), so that they do not depend on how users are
sharded. Keys are 64-bit; `key_of` makes them from strings by BLAKE2b.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Part = int | str

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _digest(seed: int, parts: tuple[Part, ...], size: int) -> int:
    text = "\x1f".join([f"i{seed}", *(f"{type(p).__name__[0]}{p}" for p in parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "little")


def stream(seed: int, *parts: Part) -> np.random.Generator:
    """Generator of the stream named by `parts` under `seed` (Philox 4x64, counter-based).

    The same arguments give the same numbers in every process and on every worker.
    """
    return np.random.Generator(np.random.Philox(key=_digest(seed, parts, 16)))


def derive(seed: int, *parts: Part) -> int:
    """Seed in [0, 2**31) for a library that wants an integer."""
    return _digest(seed, parts, 8) % 2**31


def keys_of(ids: Iterable[str]) -> NDArray[np.uint64]:
    """64-bit keys of string ids.

    Returns:
        `(n,)` uint64, the first 8 bytes (little-endian) of BLAKE2b of each UTF-8 id.
    """
    blake = hashlib.blake2b
    raw = b"".join(blake(i.encode(), digest_size=8).digest() for i in ids)
    return np.frombuffer(raw, dtype="<u8").astype(np.uint64)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def uniforms(seed: int, name: str, keys: NDArray[np.uint64], size: int = 1) -> NDArray[np.float64]:
    """Uniform numbers that belong to keys: row i depends on seed, name and keys[i] alone.

    Args:
        seed: seed of the run.
        name: name of the stream.
        keys: `(n,)` uint64 keys, for example of users.
        size: numbers per key.

    Returns:
        `(n, size)` float64 in the open interval (0, 1).
    """
    base = np.uint64(_digest(seed, (name,), 8))
    with np.errstate(over="ignore"):
        state = _mix(keys.astype(np.uint64) * _GAMMA + base)
        counters = np.arange(1, size + 1, dtype=np.uint64) * _GAMMA
        bits = _mix(_mix(state[:, None] + counters[None, :]) ^ base)
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normals(seed: int, name: str, keys: NDArray[np.uint64], size: int = 1) -> NDArray[np.float64]:
    """Standard normal numbers that belong to keys, by inversion of `uniforms`; same shapes."""
    return np.asarray(ndtri(uniforms(seed, name, keys, size)), dtype=np.float64)
