from __future__ import annotations

import numpy as np
import pytest

from promo_ray.errors import ConfigError, DataError
from promo_ray.evaluation.ab import ab_test
from promo_ray.evaluation.ab_adjust import cupac, cuped
from promo_ray.response.boosting import Boosting


def _trial(seed: int, n: int = 2000, share: float = 0.5) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    before, arm = rng.gamma(2.0, 1.0, n), (rng.random(n) < share).astype(int)
    return 0.8 * before + rng.normal(size=n) + 0.1 * arm, arm, before


def test_cuped_is_the_regression_on_the_time_before() -> None:
    y, arm, before = _trial(0)
    found = cuped(y, before)
    slope = np.cov(y, before)[0, 1] / before.var(ddof=1)
    assert found.theta == pytest.approx([slope])
    assert found.adjusted.mean() == pytest.approx(y.mean())
    assert found.variance_cut == pytest.approx(np.corrcoef(y, before)[0, 1] ** 2, abs=2e-3)
    within = cuped(y, before, arm)
    design = np.column_stack([before, np.ones(len(y)), arm])
    assert within.theta == pytest.approx(np.linalg.lstsq(design, y, rcond=None)[0][:1])


def test_noise_cuts_nothing() -> None:
    rng = np.random.default_rng(1)
    cuts = [cuped(rng.normal(size=60), rng.normal(size=(60, 8))).variance_cut for _ in range(300)]
    assert np.mean(cuts) == pytest.approx(0.0, abs=0.02)


def test_adjusted_test_covers_with_the_cut_it_reports() -> None:
    hits, effects, plain = 0, [], []
    for seed in range(400):
        y, arm, before = _trial(seed, share=0.2)
        result = ab_test(y, arm, covariate=before)[1]
        hits += result.effect_low <= 0.1 <= result.effect_high
        effects.append(result.effect)
        plain.append(ab_test(y, arm)[1].effect)
    assert 0.925 <= hits / 400 <= 0.975
    assert np.mean(effects) == pytest.approx(0.1, abs=0.01)
    cut = 1 - np.var(effects) / np.var(plain)
    assert result.variance_cut == pytest.approx(cut, abs=0.08)


def test_uneven_arms_with_other_slopes_never_lose() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=20_000)
    arm = (rng.random(20_000) < 0.1).astype(int)
    y = np.where(arm == 1, 2.0, -0.3) * x + rng.normal(size=20_000)
    assert ab_test(y, arm, covariate=x)[1].variance_cut > 0.4


def test_ratio_metric_takes_covariates_too() -> None:
    rng = np.random.default_rng(3)
    taste, views = rng.normal(size=4000), rng.poisson(5, 4000) + 1.0
    arm = np.arange(4000) % 2
    clicks = views * (0.5 + 0.2 * taste) + rng.normal(size=4000)
    plain = ab_test(clicks, arm, denominator=views)[1]
    cut = ab_test(clicks, arm, denominator=views, covariate=views * taste)[1]
    assert cut.variance_cut > 0.5
    assert cut.effect_high - cut.effect_low < 0.7 * (plain.effect_high - plain.effect_low)


def test_cupac_finds_what_is_not_linear_without_its_own_outcome() -> None:
    rng = np.random.default_rng(4)
    x, user = rng.normal(size=(3000, 3)), np.arange(3000) // 2
    y, arm = np.abs(x[:, 0]) * 2 + rng.normal(size=3000), user % 2
    prediction = cupac(y, x, groups=user, seed=1)
    assert cuped(y, prediction, arm).variance_cut > 0.4
    assert abs(cuped(y, x, arm).variance_cut) < 0.05
    changed = y.copy()
    changed[:2] += 100.0  # user 0
    again = cupac(changed, x, groups=user, seed=1)
    fold_level = again - prediction
    assert np.ptp(fold_level[:2]) < 1e-9  # the rows' own model did not see them
    noise = cupac(rng.normal(size=3000), x, boosting=Boosting(max_iter=20))
    assert abs(cuped(rng.normal(size=3000), noise, arm).variance_cut) < 0.01


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="covariate"):
        cuped([1.0, 2.0, 3.0, 4.0], [1.0, np.nan, 0.0, 0.0])
    with pytest.raises(DataError, match="rows"):
        cuped([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(DataError, match="users"):
        cupac([1.0, 2.0], [[1.0], [2.0]])
    with pytest.raises(ConfigError, match="n_folds"):
        cupac([1.0, 2.0], [[1.0], [2.0]], n_folds=1)
