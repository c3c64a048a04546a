from __future__ import annotations

import numpy as np
import pytest

from promo_ray.errors import ConfigError
from promo_ray.response.boosting import Boosting, _snap


def test_raw_values_fall_into_the_leaves_of_their_bins() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.lognormal(size=3000), rng.integers(0, 3, 3000), rng.normal(size=3000)])
    y = np.sin(x[:, 0]) + x[:, 1] + 0.1 * rng.normal(size=3000)
    trees = Boosting(max_iter=30).fit(x, y, rng.uniform(0.5, 2.0, 3000))
    np.testing.assert_array_equal(trees.predict(x), trees.predict(_snap(x)[0]))
    assert np.corrcoef(trees.predict(x), y)[0, 1] > 0.9


def test_weights_count_as_copies_of_rows() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 20, size=(500, 2)).astype(float), rng.normal(size=500)
    copies = rng.integers(1, 4, 500)
    settings = Boosting(max_iter=5, min_samples_leaf=1, l2_regularization=0.0, max_leaf_nodes=4)
    weighted = settings.fit(x, y, copies.astype(float)).predict(x)
    repeated = settings.fit(np.repeat(x, copies, axis=0), np.repeat(y, copies)).predict(x)
    np.testing.assert_allclose(weighted, repeated, atol=1e-9)


def test_prediction_never_falls_in_a_monotone_column() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2000, 2))
    trees = Boosting().fit(x, -x[:, 0] + np.sin(3 * x[:, 1]), monotone=[0, 1])
    grid = np.column_stack([np.zeros(200), np.linspace(-3, 3, 200)])
    assert (np.diff(trees.predict(grid)) >= 0).all()


@pytest.mark.parametrize("shape", [(5, 0), (0, 2)])
def test_without_columns_or_rows_the_prediction_is_the_mean(shape: tuple[int, int]) -> None:
    y = np.arange(shape[0], dtype=float)
    trees = Boosting().fit(np.zeros(shape), y)
    want = 2.0 if shape[0] else 0.0
    assert trees.predict(np.zeros((3, shape[1]))).tolist() == [want] * 3


@pytest.mark.parametrize(
    "setting",
    [{"max_leaf_nodes": 65}, {"max_iter": 0}, {"learning_rate": 0.0}, {"l2_regularization": -1.0}],
)
def test_settings_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Boosting(**setting)
