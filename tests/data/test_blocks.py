import numpy as np
import pytest

from promo_ray.data.blocks import N_BLOCKS, block_of, shard_count, shard_of


def test_blocks_are_fixed_by_the_id_alone() -> None:
    with_other = block_of(["x", "u1", "u2", "日本"])
    assert block_of(["u1", "u2", "日本"]).tolist() == with_other.tolist()[1:]
    assert block_of(["u1", "u2", "u3"]).tolist() == [756, 213, 494]


def test_blocks_are_even() -> None:
    counts = np.bincount(block_of(f"user{i}" for i in range(102_400)), minlength=N_BLOCKS)
    assert counts.min() > 50
    assert counts.max() < 160


@pytest.mark.parametrize(
    ("n_users", "n_shards"), [(0, 8), (1000, 8), (16_001, 16), (10**6, 512), (10**9, 1024)]
)
def test_shards_depend_on_the_number_of_users_alone(n_users: int, n_shards: int) -> None:
    assert shard_count(n_users) == n_shards


def test_a_shard_is_a_run_of_consecutive_blocks() -> None:
    shards = shard_of(np.arange(N_BLOCKS, dtype=np.int16), 8)
    assert (np.diff(shards) >= 0).all()
    assert np.bincount(shards).tolist() == [128] * 8
