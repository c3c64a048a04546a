"""Virtual blocks: users are hashed into 1024 blocks; a shard is a run of consecutive blocks.

The block of a user depends on the id alone. The number of shards depends on the number of users
alone and is stored with the data set, so it never depends on how many workers there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

N_BLOCKS = 1024
_USERS_PER_SHARD = 2000  # keeps Python's cost per shard below a hundredth of its array work
_MIN_SHARDS = 8
_KEY = b"promo_ray.block"


def block_of(user_ids: Iterable[str]) -> NDArray[np.int16]:
    """Block of each user: keyed BLAKE2b of the UTF-8 id, modulo 1024.

    Returns:
        `(n,)` int16 in [0, 1024).
    """
    blake = hashlib.blake2b
    raw = b"".join(blake(u.encode(), digest_size=2, key=_KEY).digest() for u in user_ids)
    return (np.frombuffer(raw, dtype="<u2") % N_BLOCKS).astype(np.int16)


def shard_count(n_users: int) -> int:
    """Shards of a data set: a power of two in [8, 1024], about 2000 users each."""
    wanted = max(1, -(-n_users // _USERS_PER_SHARD))
    return int(min(N_BLOCKS, max(_MIN_SHARDS, 1 << (wanted - 1).bit_length())))


def shard_of(blocks: NDArray[np.int16], n_shards: int) -> NDArray[np.int32]:
    """Shard of each block: blocks [s * 1024 / n_shards, (s + 1) * 1024 / n_shards) are shard s.

    Args:
        blocks: `(n,)` int16 in [0, 1024).
        n_shards: a power of two in [1, 1024].

    Returns:
        `(n,)` int32 in [0, n_shards).
    """
    return (blocks.astype(np.int32) * n_shards) // N_BLOCKS
