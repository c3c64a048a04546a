from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

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


def _log() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    n = 1000
    arm = rng.integers(0, 2, n)
    return {
        "segment": np.where(np.arange(n) < 500, "a", "b"),
        "policy_probs": np.tile([0.2, 0.8], (n, 1)),
        "other_probs": np.zeros(n, int),
        "action": arm,
        "reward": arm + rng.normal(size=n),
        "propensity": np.full(n, 0.5),
        "q_hat": np.ones((n, 2)),
    }


def test_segments_take_what_the_comparison_takes() -> None:
    log = _log()
    plain = compare_policies_by_segment(**log)
    rows = sparse.csr_array(log["policy_probs"])
    found = compare_policies_by_segment(**log | {"policy_probs": rows})
    assert found["a"].low == pytest.approx(plain["a"].low)
    unknown = compare_policies_by_segment(**log | {"propensity": None})
    assert all("propensities are missing" in found.withheld for found in unknown.values())
    against_log = compare_policies_by_segment(**log | {"other_probs": None})["a"]
    first = {k: v[:500] for k, v in log.items() if k not in ("segment", "other_probs")}
    assert against_log == compare_policies(**first, other_probs=None, method="dr")


@pytest.mark.parametrize("name", ["policy_probs", "action", "propensity", "q_hat"])
def test_short_arrays_of_segments_are_refused_by_name(name: str) -> None:
    log = _log()
    with pytest.raises(DataError) as caught:
        compare_policies_by_segment(**log | {name: log[name][:5]})
    assert caught.value.where == name


@pytest.mark.parametrize("absent", [None, float("nan")])
def test_rows_without_a_segment_are_refused(absent: float | None) -> None:
    log = _log()
    segment = log["segment"].astype(object)
    segment[3] = absent
    with pytest.raises(DataError, match="segment: must name a segment in every row"):
        compare_policies_by_segment(**log | {"segment": segment})
