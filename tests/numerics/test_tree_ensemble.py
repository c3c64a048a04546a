from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from promo_ray.errors import DataError
from promo_ray.numerics.tree_ensemble import TreeEnsemble


def make_data(n: int = 600, missing: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, 5))
    y = x[:, 0] * (x[:, 1] > 0) + x[:, 2] + rng.normal(size=n)
    x[rng.random(x.shape) < missing] = np.nan
    return x, y


@pytest.mark.parametrize("leaves", [2, 7, 8, 16, 31, 64])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_regressor_predicts_as_sklearn(leaves: int, missing: float) -> None:
    x, y = make_data(missing=missing)
    model = HistGradientBoostingRegressor(
        max_iter=12, max_leaf_nodes=leaves, min_samples_leaf=3, early_stopping=False
    ).fit(x, y)
    fresh = np.random.default_rng(4).normal(size=(500, 5))
    fresh[::7, 2] = np.nan
    np.testing.assert_allclose(
        TreeEnsemble.from_sklearn(model).predict(fresh), model.predict(fresh), rtol=0, atol=1e-12
    )


def test_values_on_a_threshold_go_left_as_in_sklearn() -> None:
    x, y = make_data(missing=0.0)
    model = HistGradientBoostingRegressor(max_iter=3, early_stopping=False).fit(x, y)
    trees = TreeEnsemble.from_sklearn(model)
    inner = trees.feature == 0
    edge = np.zeros((int(inner.sum()), 5))
    edge[:, 0] = trees.threshold[inner]
    np.testing.assert_array_equal(trees.predict(edge), model.predict(edge))


def test_classifier_predicts_log_odds() -> None:
    x, y = make_data()
    model = HistGradientBoostingClassifier(max_iter=10, early_stopping=False).fit(x, y > 0)
    np.testing.assert_allclose(
        TreeEnsemble.from_sklearn(model).predict(x), model.decision_function(x), rtol=0, atol=1e-12
    )


def test_many_classes_are_refused() -> None:
    x, y = make_data(missing=0.0)
    model = HistGradientBoostingClassifier(max_iter=2).fit(x, np.digitize(y, [-1, 1]))
    with pytest.raises(DataError, match="two classes"):
        TreeEnsemble.from_sklearn(model)


def test_categorical_splits_are_refused() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, size=(400, 1)).astype(float)
    y = np.isin(x[:, 0], [1, 4]) + 0.1 * rng.normal(size=400)
    model = HistGradientBoostingRegressor(max_iter=3, categorical_features=[0]).fit(x, y)
    with pytest.raises(DataError, match="numerical splits"):
        TreeEnsemble.from_sklearn(model)


def test_round_trip_through_arrays_keeps_the_bits() -> None:
    x, y = make_data()
    trees = TreeEnsemble.from_sklearn(HistGradientBoostingRegressor(max_iter=5).fit(x, y))
    again = TreeEnsemble.from_arrays(trees.to_arrays("a."), "a.")
    assert again.predict(x).tobytes() == trees.predict(x).tobytes()


def test_missing_array_is_named() -> None:
    x, y = make_data()
    arrays = TreeEnsemble.from_sklearn(HistGradientBoostingRegressor(max_iter=2).fit(x, y))
    content = arrays.to_arrays()
    del content["threshold"]
    with pytest.raises(DataError, match="'threshold' must be present"):
        TreeEnsemble.from_arrays(content)


def test_wrong_width_is_refused() -> None:
    x, y = make_data()
    trees = TreeEnsemble.from_sklearn(HistGradientBoostingRegressor(max_iter=2).fit(x, y))
    with pytest.raises(DataError, match=r"x: must be \(n, 5\)"):
        trees.predict(x[:, :4])


def test_trees_of_more_than_64_leaves_are_refused() -> None:
    x, y = make_data(2000, 0.0)
    model = HistGradientBoostingRegressor(
        max_iter=1, max_leaf_nodes=80, min_samples_leaf=1, early_stopping=False
    ).fit(x, y)
    with pytest.raises(DataError, match="64 leaves"):
        TreeEnsemble.from_sklearn(model).predict(x)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.floats(-5, 5), st.booleans())
def test_a_stump_is_a_step(values: list[float], threshold: float, is_left: bool) -> None:
    stump = TreeEnsemble(
        feature=np.array([0, -1, -1], dtype=np.int32),
        threshold=np.array([threshold, 0.0, 0.0]),
        is_missing_left=np.array([is_left, False, False]),
        left=np.array([1, 0, 0], dtype=np.int32),
        right=np.array([2, 0, 0], dtype=np.int32),
        value=np.array([0.0, -1.0, 1.0]),
        offset=np.array([0, 3]),
        baseline=0.5,
        n_features=1,
    )
    x = np.array([*values, np.nan])[:, None]
    want = [-0.5 if v <= threshold else 1.5 for v in values] + [-0.5 if is_left else 1.5]
    assert stump.predict(x).tolist() == want
    assert dataclasses.replace(stump, baseline=0.0).predict(x)[0] == want[0] - 0.5
