from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from promo_ray.errors import ConfigError
from promo_ray.optimizers import SearchSpace

bound = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("lower", "upper", "match"),
    [
        ([], [], "at least 1"),
        ([0.0], [1.0, 2.0], "as many"),
        ([0.0, 2.0], [1.0, 1.0], "gene 1"),
        ([float("nan")], [1.0], "gene 0"),
        ([0.0], [float("inf")], "gene 0"),
    ],
)
def test_bad_boxes_are_refused(lower: Any, upper: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        SearchSpace.box(lower, upper)


@given(bound, st.floats(1e-3, 1e6))
def test_bounds_in_float32_lie_inside_the_exact_box(low: float, width: float) -> None:
    space = SearchSpace.box([low], [low + width])
    lower, upper = space.bounds(torch.device("cpu"), torch.float32)
    if np.spacing(np.float32(abs(low) + width)) * 2 < width:
        assert low <= float(lower) <= float(upper) <= low + width


def test_half_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="float32 or float64"):
        SearchSpace.box([0], [1]).bounds(torch.device("cpu"), torch.float16)


@pytest.mark.parametrize(("x0", "match"), [([[0.0]], "must be"), ([[0.5, 2.0]], "row 0")])
def test_bad_starting_points_are_refused(x0: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        SearchSpace.box([0, 0], [1, 1]).points(x0)
