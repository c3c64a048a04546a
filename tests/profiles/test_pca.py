import numpy as np
import pytest
from sklearn.decomposition import PCA

from promo_ray.errors import ConfigError, DataError
from promo_ray.execution import iterate
from promo_ray.profiles.pca import Pca


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    return rng.normal(size=(1500, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=6) * 100


@pytest.mark.parametrize("whiten", [False, True])
def test_pca_equals_scikit_learn(x, whiten):
    method = Pca(n_components=3, whiten=whiten)
    state = iterate(method, np.array_split(x, 5)).state
    peer = PCA(3, whiten=whiten, svd_solver="full").fit(x)
    sign = np.sign((peer.components_ * state.components).sum(axis=1))
    np.testing.assert_allclose(state.components, peer.components_ * sign[:, None], atol=1e-9)
    np.testing.assert_allclose(state.explained_variance, peer.explained_variance_, rtol=1e-10)
    np.testing.assert_allclose(
        state.explained_variance_ratio, peer.explained_variance_ratio_, rtol=1e-10
    )
    np.testing.assert_allclose(method.transform(x, state), peer.transform(x) * sign, atol=1e-8)


def test_the_largest_loading_of_a_component_is_positive(x):
    rows = iterate(Pca(n_components=6), [x, -x[:700]]).state.components
    assert np.all(rows[np.arange(6), np.abs(rows).argmax(axis=1)] > 0)


def test_components_and_scores_have_the_same_bits_for_any_split(x):
    method = Pca(n_components=3)
    one = iterate(method, [x]).state
    scores = method.transform(x, one)
    for n_shards in (7, 64):
        shards = np.array_split(x, n_shards)
        state = iterate(method, shards).state
        np.testing.assert_array_equal(state.components, one.components)
        np.testing.assert_array_equal(state.explained_variance, one.explained_variance)
        split = np.concatenate([method.transform(s, state) for s in shards])
        np.testing.assert_array_equal(split, scores)


def test_columns_without_variance_and_empty_shards_are_harmless(x):
    flat = np.column_stack([x, np.full(len(x), 3.0)])
    state = iterate(Pca(n_components=2), [flat[:0], flat]).state
    np.testing.assert_allclose(state.components[:, -1], 0, atol=1e-12)
    constant = iterate(Pca(n_components=1, whiten=True), [np.ones((4, 2))]).state
    assert constant.explained_variance_ratio.tolist() == [0.0]
    assert np.all(np.isfinite(Pca(whiten=True).transform(np.ones((4, 2)), constant)))


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="n_components must be >= 1; got 0"):
        Pca(n_components=0)
    with pytest.raises(DataError, match="2 rows and 3 columns; got 4 and 2"):
        iterate(Pca(n_components=3), [np.zeros((4, 2))])
    with pytest.raises(DataError, match="finite"):
        iterate(Pca(), [np.array([[1.0, np.nan], [0.0, 1.0]])])
