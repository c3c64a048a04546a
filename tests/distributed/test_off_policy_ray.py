from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from promo_ray.distributed import RayExecutor
from promo_ray.evaluation import LogBlock, stream_policy_value

N_SHARDS = 5


def blocks(shard: int) -> Iterator[LogBlock]:
    """Three blocks of a shard, drawn where they are read."""
    for block in range(3):
        rng = np.random.default_rng([shard, block])
        n, k = 400, 20
        action = rng.integers(0, k, n)
        reward = (rng.random(n) < 0.02 * action / k + 0.1).astype(float)
        yield LogBlock(rng.dirichlet(np.ones(k), n), action, reward, np.full(n, 1 / k))


@pytest.mark.ray
@pytest.mark.parametrize("n_workers", [1, 3])
def test_streamed_estimate_has_the_same_bytes_on_any_workers(
    ray_session: Any, n_workers: int
) -> None:
    shards = [partial(blocks, shard) for shard in range(N_SHARDS)]
    alone = stream_policy_value(shards)
    with RayExecutor(n_workers, num_cpus_per_worker=0.25) as executor:
        assert stream_policy_value(shards, executor=executor) == alone
