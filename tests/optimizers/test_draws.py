from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from promo_ray.errors import ConfigError
from promo_ray.optimizers import native
from promo_ray.optimizers.draws import Draws, keys, tensor_words
from promo_ray.optimizers.native import words

N = 1 << 20
CPU = torch.device("cpu")


def unsigned(seed: int = 1, name: str = "x", island: int = 0, generation: int = 0) -> np.ndarray:
    key = keys(seed, name, (island,), generation)
    return tensor_words(key, 0, N, CPU)[0].numpy().view(np.uint32)


def p_of_chi2(counts: np.ndarray) -> float:
    return float(stats.chisquare(counts.ravel()).pvalue)


def test_every_bit_of_a_word_is_fair_and_independent_of_the_others() -> None:
    bits = (unsigned()[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    z = (bits.sum(axis=0) - N / 2) / math.sqrt(N / 4)
    assert np.abs(z).max() < 4.5
    pairs = np.corrcoef(bits[: N // 4].T) - np.eye(32)
    assert np.abs(pairs).max() < 4.9 / math.sqrt(N / 4)


@pytest.mark.parametrize("shift", [0, 8, 16, 24])
def test_bytes_and_successive_pairs_are_uniform(shift: int) -> None:
    one = (unsigned(seed=shift) >> np.uint32(shift)) & np.uint32(255)
    assert 1e-4 < p_of_chi2(np.bincount(one, minlength=256)) < 1 - 1e-4
    pairs = one[::2].astype(np.int64) * 256 + one[1::2]
    assert 1e-4 < p_of_chi2(np.bincount(pairs, minlength=65536)) < 1 - 1e-4


@pytest.mark.parametrize("lag", [1, 2, 100, 1000])
def test_words_at_a_distance_are_uncorrelated(lag: int) -> None:
    u = unsigned().astype(np.float64)
    assert abs(np.corrcoef(u[:-lag], u[lag:])[0, 1]) < 4.5 / math.sqrt(N)


def test_words_do_not_repeat_within_a_generation() -> None:
    assert len(np.unique(unsigned())) == N


def test_neighboring_seeds_names_islands_and_generations_are_independent() -> None:
    streams = [
        unsigned(),
        unsigned(seed=2),
        unsigned(name="y"),
        *(unsigned(island=k) for k in (1, 2, 3)),
        *(unsigned(generation=g) for g in (1, 2, 3)),
    ]
    rows = np.array(streams, dtype=np.float64)[:, : N // 4]
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlation).max() < 4.5 / math.sqrt(N / 4)
    for other in streams[1:]:
        # equal bits between streams are as many as between strangers
        equal = float(np.unpackbits((streams[0] ^ other).view(np.uint8)).sum())
        assert abs(equal - 16 * N) < 4.5 * math.sqrt(8 * N)


def test_avalanche_each_bit_of_the_counter_flips_half_of_the_word() -> None:
    base = unsigned()
    for bit in range(12):
        other = base[np.arange(N) ^ (1 << bit)]
        flips = np.unpackbits((base ^ other).view(np.uint8)).mean()
        assert abs(flips - 0.5) < 0.002


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_and_normal_numbers_have_their_distributions(dtype: torch.dtype) -> None:
    draws = Draws(keys(5, "x", (0,), 3), (), torch.empty(0, dtype=dtype))
    u, z = draws.uniform(200_000).double().numpy(), draws.normal(200_001).double().numpy()
    assert u.min() >= 0
    assert u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-4
    assert stats.kstest(z, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(z[:100_000], z[100_000:200_000])[0, 1]) < 4.5 / math.sqrt(100_000)
    below = draws.below(7, 70_000).numpy()
    assert p_of_chi2(np.bincount(below, minlength=7)) > 1e-4


@pytest.mark.skipif(native.kernel is None, reason="the kernels are not built")
def test_the_kernel_gives_the_words_of_the_tensor_code() -> None:
    key = keys(9, "x", (3, 4), 11)
    start = (1 << 32) - 1000  # the counter ends just before it would wrap
    assert torch.equal(words(key, start, 1000), tensor_words(key, start, 1000, CPU))
    assert torch.equal(words(key, 5, 1003), tensor_words(key, 5, 1003, CPU))


def test_a_generation_runs_out_of_words_with_an_error() -> None:
    draws = Draws(keys(1, "x", (0,), 0), (), torch.empty(0))
    draws.skip(1 << 32)
    with pytest.raises(ConfigError, match="at most 2"):
        draws.skip(1)
