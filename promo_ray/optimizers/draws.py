"""Counter-based random numbers of one generation: a keyed integer hash of the position.

Word number i of a generation is `hash(i; key)`, where the 64-bit key is drawn by SplitMix64 from
(seed, name of the method, island, generation). So a number depends on nothing else: not on the
batch, the process or what was drawn before. The hash is a Weyl step and the two multiply rounds
of `lowbias32` (Wellons 2018, constants of TheIronBorn) with half of the key in the middle.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promo_ray.errors import ConfigError
from promo_ray.optimizers import native
from promo_ray.seeding import derive

WEYL = 0x9E3779B1
MIX_1 = 0x21F0AAAD
MIX_2 = 0x735A2D97
_U24 = 2.0**-24
_MASK = (1 << 64) - 1


@functools.lru_cache(maxsize=256)
def _base(seed: int, name: str) -> int:
    return derive(seed, name, "high") << 33 ^ derive(seed, name, "low")


def _mixed(z: int) -> int:
    """Finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def keys(seed: int, name: str, islands: tuple[int, ...], generation: int) -> NDArray[np.uint64]:
    """`(len(islands),)` keys of one generation."""
    base = _base(seed, name)
    own = _mixed((base + 0x9E3779B97F4A7C15 * (generation + 1)) & _MASK)
    return np.array([_mixed((own + 0xD1342543DE82EF95 * (k + 1)) & _MASK) for k in islands], "u8")


class Draws:
    """Random numbers of one generation, handed out in order.

    Args:
        key: `(islands,)` uint64, see `keys`.
        batch: leading dimensions of what is drawn; their product is the number of islands.
        like: gives device and dtype.
    """

    def __init__(self, key: NDArray[np.uint64], batch: tuple[int, ...], like: Tensor) -> None:
        self.key = key
        self.batch = batch
        self._device, self._dtype = like.device, like.dtype
        self._at = 0

    def skip(self, n: int) -> int:
        """Take n words per island away for a kernel that draws them itself; the first position."""
        start = self._at
        self._at += n
        if self._at > 1 << 32:
            raise ConfigError("a generation of one island must need at most 2**32 random numbers")
        return start

    def words(self, *shape: int) -> Tensor:
        """`(*batch, *shape)` int32, every bit pattern alike."""
        n = math.prod(shape)
        start = self.skip(n)
        if native.kernel is not None and self._device.type == "cpu":
            out = native.words(self.key, start, n)
        else:
            out = tensor_words(self.key, start, n, self._device)
        return out.reshape(*self.batch, *shape)

    def unit(self, *shape: int) -> Tensor:
        """`(*batch, *shape)` multiples of 2**-24 in [0, 1)."""
        return unit_of(self.words(*shape), self._dtype)

    def uniform(self, *shape: int) -> Tensor:
        """`(*batch, *shape)` in [0, 1), 24 bits in float32 and 53 in float64."""
        if self._dtype == torch.float32:
            return self.unit(*shape)
        words = self.words(*shape, 2).long() & 0xFFFFFFFF
        bits = ((words[..., 0] >> 5) << 26) | (words[..., 1] >> 6)
        return bits.to(torch.float64) * 2.0**-53

    def normal(self, *shape: int) -> Tensor:
        """`(*batch, *shape)` standard normal (Box and Muller 1958)."""
        n = math.prod(shape)
        half = (n + 1) // 2
        u = self.uniform(2, half)
        tiny = _U24 / 2 if self._dtype == torch.float32 else 2.0**-54
        radius = torch.sqrt(-2.0 * torch.log(u[..., 0, :] + tiny))
        angle = u[..., 1, :] * (2 * math.pi)
        both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)
        return both[..., :n].reshape(*self.batch, *shape)

    def below(self, n: int, *shape: int) -> Tensor:
        """`(*batch, *shape)` int64, uniform in [0, n)."""
        return below_of(self.words(*shape), n)


def unit_of(words: Tensor, dtype: torch.dtype) -> Tensor:
    """Top 24 bits of words as multiples of 2**-24 in [0, 1)."""
    return ((words >> 8) & 0xFFFFFF).to(dtype) * _U24


def below_of(words: Tensor, n: int) -> Tensor:
    """Words scaled to whole numbers in [0, n) (Lemire 2019, without rejection: bias n / 2**32)."""
    return ((words.long() & 0xFFFFFFFF) * n) >> 32


def _signed(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def tensor_words(key: NDArray[np.uint64], start: int, n: int, device: torch.device) -> Tensor:
    """Words start ... start + n - 1 of each key, `(keys, n)` int32; what the kernel computes."""
    halves = torch.from_numpy(key.view(np.int32).reshape(len(key), 2).copy()).to(device)
    low, high = halves[:, :1], halves[:, 1:]
    at = torch.arange(start, start + n, dtype=torch.int64, device=device).to(torch.int32)
    x = at * _signed(WEYL) + low
    x = (x ^ ((x >> 16) & 0xFFFF)) * _signed(MIX_1)
    x = (x ^ ((x >> 15) & 0x1FFFF)) ^ high
    x = x * _signed(MIX_2)
    return x ^ ((x >> 15) & 0x1FFFF)
