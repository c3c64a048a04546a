import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promo_ray.errors import ArtifactError, ConfigError, ConvergenceWarning
from promo_ray.execution import SerialExecutor, iterate, run_islands
from promo_ray.execution.islands import Migrants
from promo_ray.numerics.merge_tree import partial_merge, tree_reduce
from promo_ray.seeding import stream


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


class _Walk(NamedTuple):
    """Random hill climbing on -|x|: small, and sensitive to any change of its random numbers."""

    step_size: float

    def init(self, problem: np.ndarray, seed: int, index: int) -> dict[str, np.ndarray]:
        x = stream(seed, "walk", index, 0).normal(size=(4, 2)) * 5
        return {"x": x, "t": np.array([seed, index, 0])}

    def _fitness(self, problem: np.ndarray, x: np.ndarray) -> np.ndarray:
        return -np.abs(x - problem).sum(axis=1)

    def step(self, problem: np.ndarray, state: dict, n_generations: int) -> dict:
        x, (seed, index, t) = state["x"].copy(), state["t"].tolist()
        for _ in range(n_generations):
            t += 1
            y = x + self.step_size * stream(seed, "walk", index, t).normal(size=x.shape)
            better = self._fitness(problem, y) > self._fitness(problem, x)
            x[better] = y[better]
        return {"x": x, "t": np.array([seed, index, t]), "f": self._fitness(problem, x)}

    def emigrants(self, state: dict, n: int) -> Migrants:
        best = np.argsort(-state["f"], kind="stable")[:n]
        return Migrants(state["x"][best], state["f"][best])

    def immigrate(self, state: dict, migrants: Migrants) -> dict:
        worst = np.argsort(state["f"], kind="stable")[: len(migrants.fitness)]
        x = state["x"].copy()
        x[worst] = migrants.x
        return state | {"x": x}

    def summary(self, state: dict) -> dict[str, float]:
        f = state["f"]
        return {"best": float(f.max()), "mean": float(f.mean()), "diversity": 0.0, "n_evals": 0}


def _islands(tmp: Path | None, n_rounds: int):
    return run_islands(
        [_Walk(0.5), _Walk(0.1), _Walk(1.0)],
        [np.array([1.0, 2.0])] * 3,
        n_rounds=n_rounds,
        migrate_every=3,
        seed=5,
        checkpoint_uri=None if tmp is None else str(tmp),
    )


def test_a_resumed_island_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = _islands(None, 8)
    _islands(tmp_path, 3)
    resumed = _islands(tmp_path, 8)
    for a, b in zip(whole.states, resumed.states, strict=True):
        assert {k: v.tobytes() for k, v in a.items()} == {k: v.tobytes() for k, v in b.items()}
    assert whole.history == resumed.history
    assert len(list(tmp_path.glob("round-*"))) == 1


def test_a_checkpoint_of_another_search_is_refused(tmp_path: Path) -> None:
    _islands(tmp_path, 2)
    with pytest.raises(ArtifactError, match="must be of this search"):
        run_islands([_Walk(9.0)], [np.zeros(2)], n_rounds=2, checkpoint_uri=str(tmp_path))


def test_the_best_travels_round_the_ring() -> None:
    run = _islands(None, 8)
    best = {i: max(h["best"] for h in run.history if h["island"] == i) for i in range(3)}
    alone = run_islands([_Walk(0.5)], [np.array([1.0, 2.0])], n_rounds=8, migrate_every=3, seed=5)
    assert min(best.values()) > -1.0
    assert max(best.values()) >= alone.history[-1]["best"]


@pytest.mark.parametrize("settings", [{"n_rounds": 0}, {"n_rounds": 1, "migrate_every": 0}])
def test_bad_island_settings_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError):
        run_islands([_Walk(1.0)], [np.zeros(2)], **settings)
    with pytest.raises(ConfigError):
        run_islands([], [], n_rounds=1)
