import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from promo_ray import seeding


def test_same_names_give_the_same_stream_in_another_process() -> None:
    code = "from promo_ray.seeding import stream; print(stream(3, 'kmeans', 7).random(4).tolist())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str(seeding.stream(3, "kmeans", 7).random(4).tolist())


@pytest.mark.parametrize("other", [(4, "kmeans", 7), (3, "pca", 7), (3, "kmeans", 8)])
def test_other_names_give_other_streams(other: tuple[int, str, int]) -> None:
    mine = seeding.stream(3, "kmeans", 7).random(100)
    assert not np.any(mine == seeding.stream(*other).random(100))


def test_integer_and_text_parts_are_different_names() -> None:
    assert seeding.derive(0, 1) != seeding.derive(0, "1")


def test_numbers_of_a_key_do_not_depend_on_the_other_keys() -> None:
    keys = seeding.keys_of([f"u{i}" for i in range(1000)])
    whole = seeding.uniforms(1, "orders", keys, 5)
    assert np.array_equal(whole[500:], seeding.uniforms(1, "orders", keys[500:], 5))
    assert np.array_equal(whole[::-1], seeding.uniforms(1, "orders", keys[::-1], 5))
    assert np.array_equal(whole[:, :2], seeding.uniforms(1, "orders", keys, 2))


def test_numbers_are_uniform_and_independent_over_keys_counters_names_and_seeds() -> None:
    keys = np.arange(200_000, dtype=np.uint64)  # consecutive keys are the hardest
    u = seeding.uniforms(0, "a", keys, 3)
    for column in u.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    others = [
        u[:, 1],
        np.roll(u[:, 0], 1),
        seeding.uniforms(1, "a", keys)[:, 0],
        seeding.uniforms(0, "b", keys)[:, 0],
    ]
    for other in others:
        assert abs(np.corrcoef(u[:, 0], other)[0, 1]) < 0.012  # 5 standard errors
        cells = np.histogram2d(u[:, 0], other, bins=16, range=[[0, 1], [0, 1]])[0]
        assert stats.chisquare(cells.ravel()).pvalue > 1e-5
    assert u.min() > 0
    assert u.max() < 1


def test_normals_are_standard_normal() -> None:
    z = seeding.normals(0, "z", np.arange(100_000, dtype=np.uint64))[:, 0]
    assert stats.kstest(z, "norm").pvalue > 1e-4
