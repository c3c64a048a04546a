from __future__ import annotations

import numpy as np
import pytest

from promo_ray.errors import DataError
from promo_ray.response.baseline import ResponseBaseline


def test_buyers_are_ranked_and_the_quality_is_out_of_fold() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    y = (rng.random(4000) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(float)
    found = ResponseBaseline.fit(x, y)
    pairs = x[y > 0, 0][:, None] > x[y == 0, 0]  # the best any model can do
    assert 0.75 < found.quality.auc <= pairs.mean() + 0.01
    noise = ResponseBaseline.fit(rng.normal(size=(4000, 3)), y)
    assert abs(noise.quality.auc - 0.5) < 0.03


def test_auc_counts_the_pairs_in_order() -> None:
    y = np.array([0, 1, 0, 1, 1, 0] * 100, dtype=float)
    x = np.random.default_rng(1).normal(size=(600, 1))
    found = ResponseBaseline.fit(x, y)
    a, b = found.out_of_fold[y > 0][:, None], found.out_of_fold[y == 0]
    assert found.quality.auc == pytest.approx(float((a > b).mean() + 0.5 * (a == b).mean()))


def test_money_is_predicted_with_its_error() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3000, 2))
    y = 10.0 + 3.0 * x[:, 0] + rng.normal(size=3000)
    quality = ResponseBaseline.fit(x, y).quality
    assert quality.mae < 1.2
    assert quality.r2 > 0.8


def test_lengths_must_agree() -> None:
    with pytest.raises(DataError, match="outcome"):
        ResponseBaseline.fit(np.zeros((4, 1)), np.zeros(3))
