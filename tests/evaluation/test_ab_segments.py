from __future__ import annotations

import numpy as np
import pytest

from promo_ray.errors import ConfigError, DataError
from promo_ray.evaluation.ab import ab_test
from promo_ray.evaluation.ab_segments import effects_by_segment


def _trial(seed: int, effects: tuple[float, ...], n: int = 6000) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    segment, arm = rng.integers(0, len(effects), n), rng.integers(0, 2, n)
    return rng.normal(size=n) + np.array(effects)[segment] * arm, arm, segment


def test_each_segment_is_its_own_test() -> None:
    y, arm, segment = _trial(0, (0.0, 0.3))
    found = effects_by_segment(y, arm, segment)
    assert found.segments == ("0", "1")
    for code, test in enumerate(found.tests):
        alone = ab_test(y[segment == code], arm[segment == code])
        assert test[1][:-1] == pytest.approx(alone[1][:-1], nan_ok=True)
    assert (found.p_adjusted[:, 0] >= [t[1].p_value for t in found.tests]).all()
    assert found.heterogeneity_p[0] < 1e-4


def test_equal_segments_are_seldom_called_different() -> None:
    calls = hits = 0
    for seed in range(300):
        found = effects_by_segment(*_trial(seed, (0.1,) * 5, 2000))
        calls += found.heterogeneity_p[0] < 0.05
        hits += abs(found.effect[0] - 0.1) < 1.96 * found.se[0]
    assert 6 <= calls <= 26
    assert 0.92 <= hits / 300 <= 0.98


def test_a_segment_without_an_arm_gives_no_verdict_and_no_error() -> None:
    y, arm, segment = _trial(1, (0.0, 0.3))
    keep = (segment == 0) | (arm == 0)
    found = effects_by_segment(y[keep], arm[keep], segment[keep])
    assert found.tests[1][1].verdict == "withheld"
    assert np.isnan(found.tests[1][1].effect)
    assert found.p_adjusted[1, 0] == 1.0
    assert found.effect[0] == pytest.approx(found.tests[0][1].effect)


def test_lost_users_of_one_segment_withhold_its_verdict_alone() -> None:
    y, arm, segment = _trial(2, (0.5, 0.5))
    rng = np.random.default_rng(3)
    keep = ~((segment == 1) & (arm == 1) & (rng.random(len(y)) < 0.3))
    found = effects_by_segment(y[keep], arm[keep], segment[keep], expected=[1, 1])
    assert [t[1].verdict for t in found.tests] == ["better", "withheld"]


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="correction"):
        effects_by_segment([1.0, 2.0], [0, 1], [0, 0], correction="dunnett")
    with pytest.raises(DataError, match="segment"):
        effects_by_segment([1.0, 2.0], [0, 1], [0])
