from __future__ import annotations

import numpy as np
import pytest

from promo_ray.errors import DataError
from promo_ray.evaluation import compare_policies, compare_policies_by_segment


def test_each_segment_has_the_estimate_of_its_own_rows() -> None:
    rng = np.random.default_rng(0)
    n = 3000
    segment = np.array(["new", "old", "few"])[np.repeat([0, 1, 2], [1400, 1560, 40])]
    arm = rng.integers(0, 2, n)
    reward = 1.0 + arm * np.where(segment == "new", 2.0, 0.0) + rng.normal(size=n)
    one, none, q = np.ones(n, dtype=int), np.zeros(n, dtype=int), np.ones((n, 2))
    found = compare_policies_by_segment(
        segment, one, none, arm, reward, np.full(n, 0.5), q_hat=q, groups=np.arange(n) // 2
    )
    assert list(found) == ["few", "new", "old"]
    assert found["few"].withheld
    assert found["new"].low < 2.0 < found["new"].high
    assert found["old"].low < 0.0 < found["old"].high
    own = segment == "new"
    plain = compare_policies(
        one[own], none[own], arm[own], reward[own], np.full(1400, 0.5), q_hat=q[own], method="dr",
        groups=(np.arange(n) // 2)[own],
    )  # fmt: skip
    assert found["new"] == plain


def test_segments_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match="segment: must have 4 rows"):
        compare_policies_by_segment(
            ["a"], [1] * 4, [0] * 4, [0, 1, 0, 1], [1.0] * 4, [0.5] * 4, q_hat=np.ones((4, 2))
        )
