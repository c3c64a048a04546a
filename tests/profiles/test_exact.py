import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from promo_ray.errors import DataError
from promo_ray.profiles.exact import (
    gram,
    gram_values,
    integer_slices,
    part_sums,
    part_sums_by,
    part_values,
    power_of_two_above,
)

values = arrays(
    np.float64,
    st.tuples(st.integers(1, 40), st.integers(1, 3)),
    elements=st.floats(-1e12, 1e12, allow_subnormal=False),
)


@settings(max_examples=60, deadline=None)
@given(x=values, cut=st.integers(0, 40))
def test_sums_have_the_same_bits_for_any_split_and_order(x, cut):
    whole = part_sums(x)
    np.testing.assert_array_equal(whole, part_sums(x[:cut]) + part_sums(x[cut:]))
    np.testing.assert_array_equal(whole, part_sums(x[::-1]))


@settings(max_examples=60, deadline=None)
@given(x=values)
def test_sums_are_correctly_rounded(x):
    grid = np.rint(x * 2.0**64) / 2.0**64
    np.testing.assert_array_equal(
        part_values(part_sums(x)), [math.fsum(column) for column in grid.T]
    )


def test_sums_by_group_equal_sums_of_the_rows_of_the_group():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(500, 3)), rng.integers(0, 4, 500).astype(np.int32)
    expected = np.stack([part_sums(x[labels == g]) for g in range(5)], axis=1)
    np.testing.assert_array_equal(part_sums_by(x, labels, 5), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 2.0**63])
def test_values_without_an_exact_sum_are_refused(bad):
    with pytest.raises(DataError, match="column 1: values must be finite"):
        part_sums(np.array([[1.0, bad]]))


def test_gram_of_slices_equals_the_product_and_has_the_same_bits_for_any_split():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3000, 4)) * np.array([1.0, 1e-6, 1e5, 0.0])
    scale = power_of_two_above(np.abs(x).max(axis=0))
    parts = [gram(integer_slices(x[s::7], scale)) for s in range(7)]
    whole = gram(integer_slices(x, scale))
    np.testing.assert_array_equal(sum(parts), whole)
    size = np.sqrt(np.outer((x**2).sum(axis=0), (x**2).sum(axis=0)))
    assert np.all(np.abs(gram_values(whole, scale) - x.T @ x) <= 1e-13 * size)
