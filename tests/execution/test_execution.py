import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promo_ray.errors import ConfigError, ConvergenceWarning
from promo_ray.execution import SerialExecutor, iterate
from promo_ray.numerics.merge_tree import partial_merge, tree_reduce


@given(n=st.integers(1, 70), cuts=st.lists(st.integers(0, 70), max_size=6))
def test_the_merge_tree_is_the_same_for_any_split_into_workers(n: int, cuts: list[int]) -> None:
    leaves = [f"{i}" for i in range(n)]
    whole = tree_reduce(leaves, lambda a, b: f"({a}+{b})")
    bounds = sorted({0, n, *(c for c in cuts if c < n)})
    nodes: dict[tuple[int, int], str] = {}
    for low, high in itertools.pairwise(bounds):
        mine = {(0, i): leaves[i] for i in range(low, high)}
        nodes |= partial_merge(mine, n, lambda a, b: f"({a}+{b})")
    (split,) = partial_merge(nodes, n, lambda a, b: f"({a}+{b})").values()
    assert split == whole


class _Mean:
    def init(self, seed: int) -> float | None:
        return None

    def partial(self, shard: np.ndarray, state: float | None) -> tuple[int, float]:
        return len(shard), float(shard.sum())

    def merge(self, a: tuple[int, float], b: tuple[int, float]) -> tuple[int, float]:
        return a[0] + b[0], a[1] + b[1]

    def update(self, state: float | None, stats: tuple[int, float]) -> float:
        return stats[1] / stats[0]

    def done(self, state: float | None) -> bool:
        return state is not None


def test_iterate_runs_rounds_until_done_on_values_and_on_sources() -> None:
    shards = [np.arange(5.0), np.arange(3.0)]
    expected = float(np.concatenate(shards).mean())
    for given_shards in (shards, [lambda s=s: s for s in shards]):
        result = iterate(_Mean(), given_shards, SerialExecutor())
        assert (result.state, result.n_iter, result.converged) == (expected, 1, True)


def test_iterate_says_when_it_did_not_converge_and_refuses_nothing() -> None:
    class Never(_Mean):
        def done(self, state: float | None) -> bool:
            return False

    with pytest.warns(ConvergenceWarning, match="Never stopped after 3 rounds"):
        result = iterate(Never(), [np.ones(2)], max_iter=3)
    assert not result.converged
    with pytest.raises(ConfigError, match="at least one shard"):
        iterate(_Mean(), [])
