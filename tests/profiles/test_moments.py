import numpy as np
import pytest

from promo_ray.errors import DataError
from promo_ray.execution import iterate
from promo_ray.profiles.moments import Moments, standardize


def test_moments_equal_numpy_and_have_the_same_bits_for_any_split():
    x = np.random.default_rng(0).lognormal(3, 2, size=(2000, 3)) + 1e6
    one = iterate(Moments(), [x]).state
    np.testing.assert_allclose(one.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(one.var, x.var(axis=0), rtol=1e-12)
    for n_shards in (7, 64):
        split = iterate(Moments(), np.array_split(x, n_shards)).state
        assert split.n == one.n
        np.testing.assert_array_equal(split.mean, one.mean)
        np.testing.assert_array_equal(split.var, one.var)


def test_empty_shards_do_not_matter():
    x = np.random.default_rng(0).normal(size=(10, 2))
    state = iterate(Moments(), [x[:0], x, x[:0]]).state
    np.testing.assert_array_equal(state.var, iterate(Moments(), [x]).state.var)


def test_standardize_centers_and_scales_and_maps_a_constant_to_zero():
    x = np.column_stack([np.random.default_rng(0).normal(5, 3, 500), np.full(500, 7.0)])
    z = standardize(x, iterate(Moments(), [x]).state)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(axis=0), [1, 0], atol=1e-12)


def test_no_row_is_refused():
    with pytest.raises(DataError, match="at least one row"):
        iterate(Moments(), [np.zeros((0, 2))])
